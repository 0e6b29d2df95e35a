"""How well `olivine check` judges calibrations: `python benchmarks/calibration.py DATA OUT`.

DATA is the folder of real samples, with `semantickitti-mini` and `nuscenes-keyframe`. Errors are put into calibrations
that are taken for right: rotations about each axis of the camera, shifts along each, and images that are late. Where
there is no image of another time, the points are moved as the vehicle's poses say. Single images are judged, and the
four images of a sequence together. OUT gets a line of JSON for each judgement; a table is printed. What was computed
before is read from OUT.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from olivine.checking.alignment import View, moved
from olivine.checking.calibration import Findings, find
from olivine.checking.cameras import twist_of, view_of
from olivine.data.datasets import NuScenesConfig, SemanticKittiConfig
from olivine.data.splits import SplitConfig
from olivine.geometry import rigid_transform

TUNED_ON = ("00", "02", "06", "09")
"""Sequences that thresholds were chosen on; the others are tested on."""

SINGLE = 2
"""Every second image is judged alone too."""

AXES = ("pitch", "yaw", "roll")
WAYS = ("right", "down", "forward")
ANGLES_DEG, SHIFTS_M, DELAYS_S = (0.25, 0.5, 1.0, 2.0), (0.02, 0.05, 0.1, 0.2), (0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Sample:
    """Views that are judged together."""

    group: str
    name: str
    views: Sequence[View]

    @property
    def tuned(self) -> bool:
        """Whether thresholds were chosen on it."""
        return self.name.split("/")[0] in TUNED_ON


@dataclass(frozen=True)
class Error:
    """What is put into a calibration: a turn and a shift of the camera, or a delay of its images."""

    kind: str
    size: str
    move: NDArray[np.float64]
    late_s: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    lines = args.out.read_text().splitlines() if args.out.exists() else []
    rows = [json.loads(line) for line in lines]
    done = {(row["group"], row["sample"], row["kind"], row["size"]) for row in rows}
    with args.out.open("a") as file:
        for number, sample in enumerate(samples(args.data)):
            for error in errors(number, sample):
                if (sample.group, sample.name, error.kind, error.size) not in done:
                    rows.append(judged(sample, error))
                    file.write(json.dumps(rows[-1]) + "\n")
                    file.flush()
    print(table(rows))


def samples(data: Path) -> Iterator[Sample]:
    """The images of each KITTI sequence together, and images alone."""
    kitti = SemanticKittiConfig(root=data / "semantickitti-mini").open(SplitConfig(split="all"))
    frames = [kitti[index] for index in range(len(kitti))]
    views = [view_of(f, f.cameras[0], twist_of(kitti, index)) for index, f in enumerate(frames)]
    for scene in dict.fromkeys(frame.scene for frame in frames):
        of_scene = [n for n, frame in enumerate(frames) if frame.scene == scene]
        yield Sample("KITTI, 4 images", scene, [views[n] for n in of_scene])
        # The next image, 0.3 s later, with this cloud: a delay that is none of the simulated ones.
        later = [replace(views[n], image=views[m].image) for n, m in pairwise(of_scene)]
        yield Sample("KITTI, image of 300 ms later", scene, later)
    nuscenes = NuScenesConfig(root=data / "nuscenes-keyframe", version="v1.0-mini").open(SplitConfig(split="all"))
    frame = nuscenes[0]
    for camera in frame.cameras:
        yield Sample("nuScenes, 1 image", camera.name, [view_of(frame, camera)])
    for frame, view in list(zip(frames, views, strict=True))[::SINGLE]:
        yield Sample("KITTI, 1 image", frame.token, [view])


def errors(number: int, sample: Sample) -> Iterator[Error]:
    """The errors for a sample; signs change from sample to sample and from error to error."""
    yield Error("none", "", np.eye(4))
    if sample.group == "KITTI, image of 300 ms later":
        return
    sign = 1 if number % 2 else -1
    for axis, name in enumerate(AXES):
        for angle in ANGLES_DEG:
            sign = -sign
            turn = Rotation.from_rotvec(np.radians(sign * angle) * np.eye(3)[axis]).as_matrix()
            yield Error(name, f"{angle:g}°", rigid_transform(turn, np.zeros(3)))
    for axis, name in enumerate(WAYS):
        for shift in SHIFTS_M:
            sign = -sign
            yield Error(name, f"{shift * 100:g} cm", rigid_transform(np.eye(3), sign * shift * np.eye(3)[axis]))
    if all(view.twist is not None for view in sample.views):
        for delay in DELAYS_S:
            sign = -sign
            yield Error("late", f"{delay * 1000:g} ms", np.eye(4), sign * delay)


def judged(sample: Sample, error: Error) -> dict[str, Any]:
    """What is found where the calibration has an error, and what is left of it after the suggestion."""
    views = [wrong(view, error) for view in sample.views]
    found = find(views)
    turn = Rotation.from_rotvec(np.radians(found.rotation_deg)).as_matrix()
    left = np.degrees(Rotation.from_matrix(turn @ error.move[:3, :3]).magnitude())
    return {
        "group": sample.group,
        "sample": sample.name,
        "tuned": sample.tuned,
        "kind": error.kind,
        "size": error.size,
        "late_s": error.late_s,
        "left_deg": round(float(left), 3),
        **raw(found),
    }


def wrong(view: View, error: Error) -> View:
    """The view with the error in its calibration; its edges stay those of the right one, some degrees around it."""
    stated = moved(view, -error.late_s) @ view.camera_from_lidar
    return replace(view, camera_from_lidar=error.move @ stated)


def raw(found: Findings) -> dict[str, Any]:
    """Findings as JSON has them."""
    return {
        "word": found.word,
        "evidence": round(found.evidence, 3),
        "rotation_deg": np.round(found.rotation_deg, 3).tolist(),
        "uncertain_deg": round(found.uncertain_deg, 3),
        "contrast": round(found.contrast, 3),
        "margin": round(min(found.margin, 99.0), 3),
        "before": round(found.before, 4),
        "after": round(found.after, 4),
        "found_late_s": round(found.late_s, 4),
        "edges": found.edges,
        "doubt": found.doubt,
    }


def auc(negatives: Sequence[float], positives: Sequence[float]) -> float:
    """Area under the ROC curve: how often a wrong calibration has more evidence than a right one."""
    if not negatives or not positives:
        return float("nan")
    first, second = np.array(negatives)[:, None], np.array(positives)[None]
    return float(((second > first) + 0.5 * (second == first)).mean())


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table: a line for each group and kind of error, one number for each size of the error.

    The sequences tuned on stand apart from those tested on. What is left of a rotation is that of all judgements that
    call the calibration off, or find nothing wrong where nothing is.
    """
    lines = [
        "| samples | error | AUC | AUC of those told | called off | cannot tell | left, median (90 %) |",
        "|---|---|---|---|---|---|---|",
    ]
    for group in dict.fromkeys(row["group"] for row in rows):
        for tuned in (True, False):
            of = [row for row in rows if row["group"] == group and row["tuned"] is tuned]
            for kind in dict.fromkeys(row["kind"] for row in of):
                lines.append(_line(group, tuned, kind, of))
    return "\n".join(lines)


def _line(group: str, tuned: bool, kind: str, of: Sequence[dict[str, Any]]) -> str:
    right = [row for row in of if row["kind"] == "none"]
    sizes = list(dict.fromkeys(row["size"] for row in of if row["kind"] == kind))
    here = [[row for row in of if (row["kind"], row["size"]) == (kind, size)] for size in sizes]
    told = [[row for row in each if row["doubt"] is None] for each in here]
    areas = [_areas(right, here), _areas([row for row in right if row["doubt"] is None], told)]
    counts = [[sum(row["word"] == word for row in each) for each in here] for word in ("off", "cannot tell")]
    left = [row["left_deg"] for each in told for row in each if row["word"] == "off" or kind == "none"]
    rest = f"{np.median(left):.2f}° ({np.quantile(left, 0.9):.2f}°)" if left and kind in ("none", *AXES) else ""
    cells = ["" if kind == "none" else " / ".join(area) for area in areas]
    cells += [" / ".join(f"{count}" for count in each) + f" of {len(here[0])}" for each in counts]
    what = f"{kind} {' / '.join(sizes)}".strip()
    return f"| {group}{', tuned on' if tuned else ''} | {what} | {' | '.join(cells)} | {rest} |"


def _areas(right: Sequence[dict[str, Any]], wrong: Sequence[Sequence[dict[str, Any]]]) -> list[str]:
    areas = [auc([row["evidence"] for row in right], [row["evidence"] for row in each]) for each in wrong]
    return [f"{area:.2f}" if np.isfinite(area) else "–" for area in areas]


if __name__ == "__main__":
    main()
