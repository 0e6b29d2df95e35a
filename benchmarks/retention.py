"""What a network is worth on sensors of fewer beams, with and without `augment.beams`: docs/results/retention.md.

    python benchmarks/retention.py datasets/semantickitti-mini OUT [epochs=100] [seeds=0,1,2]

pretrains OLIVINE with every seed on scans of 64 beams, as they are and thinned at random, probes each in the same way,
and scores every probe at 64, 32 and 16 beams. It prints a table; what is finished in OUT is not done again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

ARMS: dict[str, list[str]] = {"as they are": [], "thinned": ["augment.beams={}"]}
"""How scans are shown while pretraining and probing."""
BEAMS = (64, 32, 16)
PROBE = ["mode=probe", "train_split.every=1", "train.epochs=6", "train.batch_size=4", "optimizer.lr=2.0e-2"]
"""Linear probing as in the comparisons of `docs/results/real_scans.md`."""


def olivine(*words: str) -> None:
    """Run a command in a process of its own."""
    done = subprocess.run([sys.executable, "-m", "olivine", *words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"olivine {' '.join(words)}\n{done.stderr}")


def pretrained(out: Path, arm: str, seed: int, common: list[str], epochs: int) -> Path:
    """The pretraining of an arm."""
    name = f"pretrain-{arm.replace(' ', '-')}-seed{seed}"
    if not (out / name / "weights.json").exists():
        own = [f"name={name}", f"train.epochs={epochs}", f"train.seed={seed}", "train.tensorboard=false", *ARMS[arm]]
        olivine("pretrain", "mini_kitti_olivine", *common, *own, "--resume")
    return out / name


def probed(out: Path, arm: str, seed: int, weights: Path, common: list[str]) -> Path:
    """A probe of it."""
    name = f"probe-{arm.replace(' ', '-')}-seed{seed}"
    if not (out / name / "results.json").exists():
        own = [f"name={name}", f"weights={weights}", f"train.seed={seed}", *PROBE, *ARMS[arm]]
        olivine("segment", "mini_kitti_finetune", *common, *own, "--resume")
    return out / name


def scored(run: Path) -> dict[int, float]:
    """The mIoU of a probe by the number of beams, in percent."""
    files = [run / "results.json", *run.glob("evaluations/*/evaluation.json")]
    found = {}
    for file in files:
        results = json.loads(file.read_text(encoding="utf-8"))
        found[results["protocol"]["beams"] or BEAMS[0]] = results["miou"]
    for beams in BEAMS:
        if beams not in found:
            olivine("evaluate", str(run), f"eval_beams={beams}")
            return scored(run)
    return found


def main() -> None:
    """Do what is left to do, and print the table."""
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    options = dict(word.split("=") for word in sys.argv[3:])
    epochs, seeds = int(options.get("epochs", "100")), [int(seed) for seed in options.get("seeds", "0,1,2").split(",")]
    common = [f"data.root={data}", f"out={out}"]
    print(f"| scans of training | {' | '.join(f'{beams} beams' for beams in BEAMS)} |\n|---|{'---|' * len(BEAMS)}")
    for arm in ARMS:
        weights = {seed: pretrained(out, arm, seed, common, epochs) for seed in seeds}
        scores = [scored(probed(out, arm, seed, weights[seed], common)) for seed in seeds]
        cells = [_cell([score[beams] for score in scores]) for beams in BEAMS]
        print(f"| {arm} | {' | '.join(cells)} |", flush=True)


def _cell(values: list[float]) -> str:
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{spread} ({', '.join(f'{value:.1f}' for value in values)})"


if __name__ == "__main__":
    main()
