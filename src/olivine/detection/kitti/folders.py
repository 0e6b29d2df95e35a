"""Scoring folders of KITTI text files: anybody's detections against anybody's labels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from olivine.data.kitti_labels import ObjectLabels, read_objects
from olivine.data.splits import KITTI_OBJECT_SPLITS, kitti_object_frames
from olivine.detection.kitti.average_precision import average_precision
from olivine.detection.kitti.rules import CLASSES, DIFFICULTIES, ClassRule
from olivine.detection.kitti.scores import KittiScores
from olivine.errors import OlivineWarning, UserError
from olivine.reading import TEXT_BYTES, below, read_file


def score_folders(
    detections: Path, labels: Path, frames: Path | None = None, classes: Sequence[str | ClassRule] = CLASSES
) -> KittiScores:
    """Score the text files of a folder.

    Args:
        detections: a file `<frame>.txt` per frame, with scores; an empty file says that nothing was found.
        labels: a file `<frame>.txt` per frame.
        frames: a text file with the names of the frames to score, one a line; or, where there is no such file, the name
            of an official split (`train`, `val`, `trainval`). None scores all, which must then be the same in both
            folders.
        classes: what is scored: names of KITTI's classes, and rules of others.

    Raises:
        UserError: no such folder or list, a frame without labels or without detections, a file that cannot be read, or
            a class that KITTI does not score.
    """
    there, found = _frames_of(labels, "label files"), _frames_of(detections, "detection files")
    wanted, split = (sorted(there), f"all of {labels}") if frames is None else _listed(frames)
    hint = "; score some frames with --frames LIST.txt" if frames is None else ""
    _refuse(
        [name for name in wanted if name not in found],
        lambda name: f"{detections / name}.txt",
        f"no detections for this frame of {frames or labels}; write an empty file where nothing was found{hint}",
    )
    _refuse(
        [name for name in (sorted(found) if frames is None else wanted) if name not in there],
        lambda name: f"{labels / name}.txt",
        f"no labels for this frame of {frames or detections}; add them, or leave the frame out{hint}",
    )
    truth = [read_objects(labels / f"{name}.txt") for name in wanted]
    scored = [read_objects(detections / f"{name}.txt", scored=True) for name in wanted]
    _warn_of_low_boxes(scored, detections)
    return average_precision(truth, scored, classes, split=split)


def read_frame_list(path: Path) -> list[str]:
    """The names of frames in a text file, one a line, such as KITTI's own `val.txt`.

    Raises:
        UserError: no such file, no names in it, one of them twice, or one that leads elsewhere.
    """
    text = read_file(path, "this list of frames", limit=TEXT_BYTES).decode("utf-8-sig", errors="replace")
    names = [line.strip() for line in text.split("\n") if line.strip()]
    if not names:
        raise UserError(f"{path}: names no frame; write the name of a frame on each line, e.g. 000007")
    seen: set[str] = set()
    for name in names:
        below(path.parent, name, str(path))
        if name in seen:
            raise UserError(f"{path}: names the frame {name!r} twice; name it once")
        seen.add(name)
    return names


def _listed(frames: Path) -> tuple[list[str], str]:
    """The frames of a list or of an official split, and what to call them."""
    if str(frames) in KITTI_OBJECT_SPLITS and not frames.exists():
        return list(kitti_object_frames(str(frames))), f"KITTI's {frames}"
    return read_frame_list(frames), frames.stem


def _frames_of(folder: Path, what: str) -> set[str]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the folder of the {what}")
    names = {path.stem for path in folder.glob("*.txt")}
    if not names:
        raise UserError(f"{folder}: holds no text file; give the folder of the {what}, one <frame>.txt per frame")
    return names


def _refuse(missing: list[str], path: Callable[[str], str], said: str) -> None:
    if missing:
        more = f" ({len(missing) - 1} more are missing)" if len(missing) > 1 else ""
        raise UserError(f"{path(missing[0])}: {said}{more}")


def _warn_of_low_boxes(scored: Sequence[ObjectLabels], folder: Path) -> None:
    """Detections without image boxes would be neither right nor wrong, from above and in space too."""
    least = min(difficulty.height_px for difficulty in DIFFICULTIES)
    heights = [height for frame in scored for height in (frame.image_box[:, 3] - frame.image_box[:, 1]).tolist()]
    if heights and max(heights) < least:
        warnings.warn(
            f"{folder}: no detection is {least:g} px high in the image, and lower ones are neither right nor wrong; "
            "give every detection its image box in pixels",
            OlivineWarning,
            stacklevel=3,
        )
