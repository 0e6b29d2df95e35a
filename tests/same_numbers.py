"""Whether a change of the code changes numbers: digests of losses and weights of short runs, before and after it.

    python tests/same_numbers.py FOLDER [THREADS]

simulates a small world in FOLDER (kept, so that a second call is faster and reads the same), pretrains on it with every
method of the demo for a few steps, fine-tunes and probes what OLIVINE made, and prints a line per run: SHA-256 of its
losses, and of its weights' names, types and values. The same lines from two commits on one machine say that nothing
between them changed a number. Runs have one thread, as sums depend on how they are split, or THREADS; with any number
the same command prints the same lines again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from safetensors.torch import load_file

METHODS = ("olivine", "ppkt", "slidr", "scalr", "pointcontrast", "depthcontrast", "strl", "deepcluster")
TRAINED, SCORED = "[scene-0001]", "[scene-0002]"
STEPS = 6


def olivine(*words: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": (sys.argv[2:] or ["1"])[0]}
    done = subprocess.run([sys.executable, "-m", "olivine", *words], env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"olivine {' '.join(words)}\n{done.stderr}")


def digests(run: Path) -> str:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = hashlib.sha256(json.dumps([line.get("losses") for line in lines]).encode()).hexdigest()
    weights = hashlib.sha256()
    for name, value in sorted(load_file(run / "weights.safetensors").items()):
        weights.update(f"{name} {value.dtype} {tuple(value.shape)}".encode() + value.contiguous().numpy().tobytes())
    return f"{run.name:<24} losses {losses[:16]} weights {weights.hexdigest()[:16]}"


def main() -> None:
    folder = Path(sys.argv[1])
    world, runs = folder / "world", folder / "runs"
    if not world.exists():
        olivine("simulate", str(world), "scenes=2", "keyframes_per_scene=4", "lidar.columns=360")
        olivine("label", "label_slic", f"data.root={world}", "data.version=v1.0-sim", f"out={world}/superpixels")
    shutil.rmtree(runs, ignore_errors=True)
    common = [f"data.root={world}", f"out={runs}", f"train.max_steps={STEPS}", "train.log_every=1"]
    common += ["train.batch_size=2", "train.tensorboard=false", f"train_split.split={TRAINED}"]
    for method in METHODS:
        own = [f"data.superpixels={world}/superpixels"] if method == "slidr" else []
        olivine("pretrain", f"demo_{method}", *common, *own)
        print(digests(runs / f"demo_{method}"), flush=True)
    for protocol in ("finetune", "probe"):
        settings = [f"weights={runs}/demo_olivine", f"val_split.split={SCORED}", "train_split.every=1"]
        olivine("segment", f"demo_{protocol}", *common, *settings)
        print(
            digests(runs / f"demo_{protocol}"), json.loads((runs / f"demo_{protocol}/results.json").read_text())["miou"]
        )


if __name__ == "__main__":
    main()
