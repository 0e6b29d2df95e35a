"""Random faults over the commands: nothing may be lost, nothing silently wrong, no process left.

    python tests/torture/faults.py FOLDER --count 200 --seed 0

makes a small world below FOLDER, runs every command once in peace, and then strikes: SIGKILL and SIGTERM after a
random delay, files that may not grow, files that vanish, flipped bits, hostile values in the tables. After each strike
the same command must end as it did in peace, to the byte, or have refused in one line. Prints a line per fault and
exits with 1 if any rule was broken. Linux only: processes are found by their session in /proc.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # what the first optimizer would import, once for all

sys.path.insert(0, str(Path(__file__).parents[1]))

from builders.nuscenes import build_nuscenes
from builders.recipes import SCENES, tiny_pretraining, tiny_segmentation, write_recipe
from olivine.cli import main

TRAIN = {"epochs": 4, "batch_size": 2, "workers": 0, "save_every": 2, "log_every": 1, "tensorboard": False}
SIMULATED = ("scenes=2", "keyframes_per_scene=1", "image_size=[64,36]", "lidar={columns: 60}")
HOSTILE = (None, True, -1, 2**70, 1e308, "", "../../x", "/dev/zero", "\x1b[2J\n", [], {}, [1e308] * 3, "no-such-token")


@dataclass
class Outcome:
    """How a command ended: its exit status (negative for a signal), what it said, and how long it took."""

    status: int
    said: str
    seconds: float

    @property
    def refused(self) -> bool:
        """It ended as the project promises for what a user can mend."""
        return self.status == 2 and "Traceback" not in self.said


@dataclass
class World:
    """A folder with data and recipes, and what each command leaves there in peace."""

    folder: Path
    peace: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def words(self, command: str, name: str) -> list[str]:
        """The command line of a command whose results go to the folder `name`."""
        out = self.folder / "out" / name
        data = f"{{name: nuscenes, root: {self.data}, version: v1.0-mini}}"
        return {
            "pretrain": ["pretrain", str(self.folder / "pretrain.yaml"), f"name={name}", "--resume"],
            "segment": ["segment", str(self.folder / "segment.yaml"), f"name={name}", "--resume"],
            "label": ["label", "label_slic", f"data={data}", f"out={out}"],
            "simulate": ["simulate", str(out), *SIMULATED],
            "export": ["export", str(self.folder / "out" / "peace-pretrain"), f"{out}.pt", "--to", "minkowski"],
            "compare": ["compare", str(self.folder / "compare.yaml"), f"name={name}"],
        }[command]

    def left(self, command: str, name: str) -> str:
        """Digest of what a command left: weights, scores, masks, worlds, without what names the run."""
        out = self.folder / "out" / name
        if command == "export":
            return hashlib.sha256(Path(f"{out}.pt").read_bytes()).hexdigest()
        if command == "compare":
            return json.dumps(json.loads((out / "results.json").read_text()), sort_keys=True)
        wanted = {"pretrain": ["weights.safetensors"], "segment": ["weights.safetensors", "results.json"]}
        files = [out / file for file in wanted[command]] if command in wanted else sorted(out.rglob("*"))
        digest = hashlib.sha256()
        for path in files:
            if path.is_file():
                content = path.read_bytes().replace(name.encode(), b"NAME")
                digest.update(str(path.relative_to(out)).encode() + b"\0" + content)
        return digest.hexdigest()


def run(words: list[str], *, strike: tuple[int, float] | None = None, limit: int | None = None) -> Outcome:
    """Run a command in a session of its own, perhaps with a signal after a delay or a bound on the size of files."""
    said = Path(f"/tmp/torture-{os.getpid()}.log")
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _be_the_program(words, said, limit)
    if strike is not None:
        number, delay = strike
        end = began + delay
        while time.monotonic() < end and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.002)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    outcome = Outcome(status, said.read_text(errors="replace"), time.monotonic() - began)
    survivors = _survivors(child)
    if survivors:
        raise AssertionError(f"processes outlived {words[0]}: {survivors}")
    return outcome


def _be_the_program(words: list[str], said: Path, limit: int | None) -> None:
    os.setsid()
    with said.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    status = 1
    try:
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        status = main(words)
    except BaseException:  # noqa: BLE001 (what the interpreter itself would print)
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _survivors(session: int, patience_s: float = 10.0) -> list[str]:
    """Processes of a session whose leader is dead, after some patience."""
    end = time.monotonic() + patience_s
    while True:
        alive = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):
                state, _, _, of = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(of) == session and state != "Z":
                    alive.append((entry / "cmdline").read_text().replace("\0", " ")[:80])
        if not alive or time.monotonic() > end:
            return alive
        time.sleep(0.05)


def build(folder: Path) -> World:
    """The world, and every command once in peace."""
    folder.mkdir(parents=True)
    world = World(folder)
    data = build_nuscenes(world.data, SCENES, 4, points=150, boxes=2)
    shared: dict[str, Any] = {"out": str(folder / "out"), "train": TRAIN}
    write_recipe(folder / "pretrain.yaml", tiny_pretraining(data, **shared))
    weights = str(folder / "out" / "peace-pretrain")
    write_recipe(folder / "segment.yaml", tiny_segmentation(data, **shared, weights=weights))
    scratch = write_recipe(folder / "scratch.yaml", tiny_segmentation(data, **shared))
    arms = {"scratch": None, "olivine": {"recipe": str(folder / "pretrain.yaml")}}
    protocols = {"finetune": {"recipe": scratch}}
    comparison = {"name": "x", "out": str(folder / "out"), "seeds": [0], "arms": arms, "protocols": protocols}
    write_recipe(folder / "compare.yaml", comparison)
    for command in ("pretrain", "segment", "label", "simulate", "export", "compare"):
        outcome = run(world.words(command, f"peace-{command}"))
        if outcome.status != 0:
            raise AssertionError(f"{command} fails in peace: {outcome.said}")
        world.peace[command] = world.left(command, f"peace-{command}")
        world.seconds[command] = outcome.seconds
    return world


def mended(world: World, command: str, name: str) -> None:
    """Run the command again, undisturbed: it must end as in peace."""
    again = run(world.words(command, name))
    if command in ("export", "simulate") and again.status == 2 and "exists" in again.said:
        again = Outcome(0, "", 0)  # it had been written whole
    if again.status != 0:
        raise AssertionError(f"{command} cannot go on: {again.status}: {again.said[-400:]}")
    if world.left(command, name) != world.peace[command]:
        raise AssertionError(f"{command} ended otherwise than in peace")


def killed(world: World, rng: random.Random, name: str) -> str:
    """SIGKILL or SIGTERM at a random moment, perhaps twice, then again in peace."""
    command = rng.choice(["pretrain", "pretrain", "segment", "segment", "label", "simulate", "export", "compare"])
    number = rng.choice([signal.SIGKILL, signal.SIGTERM])
    for _ in range(rng.choice([1, 1, 2])):
        outcome = run(world.words(command, name), strike=(number, rng.uniform(0, 1.1 * world.seconds[command])))
        allowed = {-9} if number == signal.SIGKILL else {143, -15}
        if outcome.status not in {0, *allowed} and not (command == "export" and outcome.refused):
            raise AssertionError(f"{command} ended with {outcome.status}: {outcome.said[-400:]}")
    mended(world, command, name)
    return f"{signal.Signals(number).name} in {command}"


def full(world: World, rng: random.Random, name: str) -> str:
    """No file may grow beyond a random size, as on a full disk; then again in peace."""
    command, limit = rng.choice(["pretrain", "segment", "label", "export"]), int(10 ** rng.uniform(1, 5.5))
    outcome = run(world.words(command, name), limit=limit)
    failed = outcome.status in {1, 2} and "Traceback" not in outcome.said
    if outcome.status != 0 and not failed:
        raise AssertionError(f"{command} with files of {limit} bytes: {outcome.status}: {outcome.said[-400:]}")
    mended(world, command, name)
    return f"full disk ({limit} bytes) in {command}: exit {outcome.status}"


@contextlib.contextmanager
def changed(path: Path, content: bytes | None) -> Iterator[None]:
    """A file with other content, or without any file, for a while."""
    before = path.read_bytes()
    try:
        path.unlink() if content is None else path.write_bytes(content)
        yield
    finally:
        path.write_bytes(before)


def vanished(world: World, rng: random.Random, name: str) -> str:
    """A file of the data is not there; the command refuses, or never needed it, and later ends as in peace."""
    command = rng.choice(["pretrain", "segment", "label"])
    path = rng.choice(sorted(path for path in world.data.rglob("*") if path.is_file()))
    with changed(path, None):
        outcome = run(world.words(command, name))
        damaged = command == "label" and outcome.status == 1 and "Traceback" not in outcome.said
        if outcome.status != 0 and not outcome.refused and not damaged:
            raise AssertionError(f"{command} without {path.name}: {outcome.status}: {outcome.said[-400:]}")
        if outcome.status == 0 and world.left(command, name) != world.peace[command]:
            optional = path.name == "lidarseg.json" or "camseg" in path.parts
            if not optional:
                raise AssertionError(f"{command} without {path.name} ended well, but otherwise than in peace")
            shutil.rmtree(world.folder / "out" / name)
    mended(world, command, name)
    return f"{path.relative_to(world.data)} vanished in {command}: exit {outcome.status}"


def flipped(world: World, rng: random.Random, name: str) -> str:
    """One bit of a checkpoint, of weights or of a mask is another one: refused, or of no consequence."""
    victim = rng.choice(["last.pt", "weights", "mask"])
    if victim == "mask":
        path, words = rng.choice(sorted((world.data / "camseg").rglob("*.png"))), world.words("pretrain", name)
    else:
        shutil.copytree(world.folder / "out" / "peace-segment", world.folder / "out" / name)
        run_folder = world.folder / "out" / name
        config = run_folder / "config.yaml"
        config.write_text(config.read_text().replace("name: peace-segment", f"name: {name}"))
        path = run_folder / "checkpoints" / "last.pt" if victim == "last.pt" else run_folder / "weights.safetensors"
        words = world.words("segment", name) if victim == "last.pt" else ["evaluate", str(run_folder)]
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    with changed(path, bytes(content)):
        outcome = run(words)
        if outcome.status != 0 and not outcome.refused:
            raise AssertionError(f"a flipped bit in {path.name}: {outcome.status}: {outcome.said[-400:]}")
        if outcome.status == 0 and victim == "mask" and world.left("pretrain", name) != world.peace["pretrain"]:
            raise AssertionError(f"a flipped bit in {path} gave other weights")
        if outcome.status == 0 and victim == "last.pt" and world.left("segment", name) != world.peace["segment"]:
            raise AssertionError("a flipped bit in last.pt gave other weights")
    return f"a flipped bit in {path.name}: exit {outcome.status}"


def hostile(world: World, rng: random.Random, name: str) -> str:
    """A value of a table is hostile: check and training end, in time, without a traceback."""
    tables = {path: json.loads(path.read_text()) for path in sorted((world.data / "v1.0-mini").glob("*.json"))}
    path = rng.choice([path for path, rows in tables.items() if rows])
    rows = tables[path]
    row = rng.choice(rows)
    key, value = rng.choice(sorted(row)), rng.choice(HOSTILE)
    row[key] = value
    with changed(path, json.dumps(rows).encode()):
        for words in (["check", str(world.data), "--json"], world.words("pretrain", name)):
            outcome = run(words, strike=(signal.SIGKILL, 60.0))
            if outcome.status not in {0, 2} or "Traceback" in outcome.said:
                raise AssertionError(f"{words[0]} with {path.name} {key}={value!r}: {outcome.said[-400:]}")
    return f"{path.name} {key}={value!r}: exit {outcome.status}"


Fault = Callable[[World, random.Random, str], str]
FAULTS: dict[Fault, int] = {killed: 5, full: 2, vanished: 2, flipped: 3, hostile: 4}
"""The faults, and how often each is drawn."""


def torture(folder: Path, count: int, seed: int, say: Callable[[str], None]) -> list[str]:
    """Strike `count` times; returns what was broken, one line each."""
    torch.set_num_threads(1)
    world, broken = build(folder), []
    say("in peace: " + ", ".join(f"{command} {seconds:.1f} s" for command, seconds in world.seconds.items()))
    for number in range(count):
        rng = random.Random(f"{seed}-{number}")
        (fault,) = rng.choices(list(FAULTS), list(FAULTS.values()))
        name = f"fault{number}"
        try:
            say(f"{number}: {fault(world, rng, name)}")
        except AssertionError as error:
            broken.append(f"{number}: {fault.__name__}: {error}")
            say(f"{number}: BROKEN: {fault.__name__}: {error}")
        shutil.rmtree(world.folder / "out" / name, ignore_errors=True)
    return broken


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    found = torture(asked.folder, asked.count, asked.seed, lambda line: print(line, flush=True))
    print(f"{asked.count - len(found)} of {asked.count} faults ended well")
    sys.exit(1 if found else 0)
