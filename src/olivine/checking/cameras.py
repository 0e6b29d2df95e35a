"""The calibration of every camera of a dataset: which images are looked at, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from olivine.checking.alignment import View, moved
from olivine.checking.calibration import Findings, find
from olivine.checking.edges import cloud_edges, image_edges
from olivine.data.frame import Camera, Dataset, Frame, ListsCameras
from olivine.errors import UserError
from olivine.geometry import invert, rigid_transform

FRAMES = 8
"""How many images of a camera are looked at, spread evenly."""

LONGEST_S = 2.5
"""Frames farther apart do not say how the vehicle moves at one of them."""

_AXES = ("pitch", "yaw", "roll")


@dataclass(frozen=True)
class CameraVerdict:
    """What is said of a camera's calibration.

    Attributes:
        camera: its name.
        focal_px: the focal length of its lens, which tells cameras of one name on different vehicles apart.
        images: how many images were looked at.
        index: a frame of the dataset that was, to show.
        token: of that frame.
        findings: what was found.
        camera_from_lidar: [4, 4] of that frame.
        suggested: [4, 4] what would bring the edges of that frame together best.
    """

    camera: str
    focal_px: float
    images: int
    index: int
    token: str
    findings: Findings
    camera_from_lidar: NDArray[np.float64]
    suggested: NDArray[np.float64]

    @property
    def word(self) -> str:
        """`fine`, `off` or `cannot tell`."""
        return self.findings.word

    def as_json(self) -> dict[str, Any]:
        """Ready for `json.dumps`; angles in degrees, times in seconds."""
        found = self.findings
        return {
            "camera": self.camera,
            "focal_px": round(self.focal_px, 2),
            "images": self.images,
            "frame": self.token,
            "verdict": found.word,
            "why": found.doubt,
            "confidence": round(found.confidence, 4),
            "rotation_deg": dict(zip(_AXES, np.round(found.rotation_deg, 3).tolist(), strict=True)),
            "uncertain_deg": round(found.uncertain_deg, 3),
            "late_s": round(found.late_s, 4),
            "score": round(found.before, 4),
            "best_score": round(found.best, 4),
            "edges": found.edges,
            "camera_from_lidar": _rounded(self.camera_from_lidar),
            "suggested_camera_from_lidar": _rounded(self.suggested) if found.word == "off" else None,
        }

    def lines(self) -> list[str]:
        """The same for people: the verdict, and a matrix ready to paste where it is off."""
        found = self.findings
        name = f"{self.camera} ({self.focal_px:.1f} px, {self.images} images)"
        if found.word == "cannot tell":
            return [f"{name}: calibration: cannot tell, {found.doubt}"]
        if found.word == "fine":
            best = f"edges meet best {found.angle_deg:.2f}° away, ± {found.uncertain_deg:.2f}°"
            return [f"{name}: no sign that the calibration is off: {best}"]
        sure = f"confidence {found.confidence:.0%}" if found.confidence < 0.995 else "confidence over 99%"
        if found.late_s:
            way = "late" if found.late_s > 0 else "early"
            mend = f"try to add {found.late_s:+.3f} s to their times"
            return [f"{name}: images look {abs(found.late_s) * 1000:.0f} ms {way} ({sure}); {mend}"]
        turns = list(zip(_AXES, found.rotation_deg.tolist(), strict=True))
        main = " and ".join(axis for axis, turn in turns if abs(turn) > 0.5 * found.angle_deg)
        each = ", ".join(f"{axis} {turn:+.2f}°" for axis, turn in turns)
        matrix = json.dumps(_rounded(self.suggested))
        return [
            f"{name}: looks {found.angle_deg:.1f}° off in {main} ({sure}); turn the camera by {each}; try this matrix:",
            f"  camera_from_lidar: {matrix}  # of frame {self.token}",
        ]


def judge_calibration(dataset: Dataset, frames: int = FRAMES) -> list[CameraVerdict]:
    """Judge the calibration of every camera of a dataset.

    Args:
        dataset: an opened dataset; frames and images that cannot be read are left out.
        frames: at most so many images of each camera are looked at.

    Returns:
        A verdict for each camera and lens, by name; none where there are no cameras.
    """
    verdicts = []
    for (camera, focal_px), seen in sorted(_views(dataset, frames).items()):
        found = find([view for _, _, view in seen])
        index, token, view = seen[0]
        turn = rigid_transform(Rotation.from_rotvec(np.radians(found.rotation_deg)).as_matrix(), np.zeros(3))
        change = moved(view, found.late_s) if found.late_s else turn
        now = view.camera_from_lidar
        verdicts.append(CameraVerdict(camera, focal_px, len(seen), index, token, found, now, change @ now))
    return verdicts


def _views(dataset: Dataset, frames: int) -> dict[tuple[str, float], list[tuple[int, str, View]]]:
    """Frame, its token and view of the images to look at, by the camera's name and focal length."""
    found: dict[tuple[str, float], list[tuple[int, int]]] = {}
    for index in _spread(len(dataset), 4 * frames):
        for place, camera in enumerate(_cameras(dataset, index)):
            found.setdefault((camera.name, round(float(camera.intrinsics[0, 0]), 1)), []).append((index, place))
    views: dict[tuple[str, float], list[tuple[int, str, View]]] = {}
    chosen = {key: [places[n] for n in _spread(len(places), frames)] for key, places in found.items()}
    for index in sorted({index for places in chosen.values() for index, _ in places}):
        try:
            frame, twist = dataset[index], twist_of(dataset, index)
        except UserError:
            continue
        for key, places in chosen.items():
            for place in (place for at, place in places if at == index):
                try:
                    view = view_of(frame, frame.cameras[place], twist)
                except UserError:
                    continue
                views.setdefault(key, []).append((index, frame.token, view))
    return views


def view_of(frame: Frame, camera: Camera, twist: NDArray[np.float64] | None = None) -> View:
    """A camera's image of a frame with its cloud.

    Raises:
        UserError: the image cannot be read.
    """
    edges = cloud_edges(frame.points_lidar_m, frame.intensity, camera)
    return View(edges, image_edges(camera), camera.camera_from_lidar, twist, frame.scene)


def twist_of(dataset: Dataset, index: int) -> NDArray[np.float64] | None:
    """[6] angular (rad/s) and linear (m/s) velocity of the LiDAR in its own frame, from the poses around a frame."""
    around = range(max(0, index - 1), min(len(dataset), index + 2))
    near = [other for other in around if dataset.scene(other) == dataset.scene(index)]
    first, last = dataset[near[0]], dataset[near[-1]]
    duration_s = (last.timestamp_us - first.timestamp_us) * 1e-6
    if first.global_from_lidar is None or last.global_from_lidar is None or not 0 < duration_s < LONGEST_S:
        return None
    step = invert(first.global_from_lidar) @ last.global_from_lidar
    return np.concatenate((Rotation.from_matrix(step[:3, :3]).as_rotvec(), step[:3, 3])) / duration_s


def _cameras(dataset: Dataset, index: int) -> Sequence[Camera]:
    """The cameras of a frame, none where it cannot be read."""
    try:
        return dataset.cameras(index) if isinstance(dataset, ListsCameras) else dataset[index].cameras
    except UserError:
        return ()


def _spread(count: int, most: int) -> list[int]:
    return [int(place) for place in np.unique(np.linspace(0, count - 1, min(count, most)).round())]


def _rounded(matrix: NDArray[np.float64]) -> list[list[float]]:
    rows: list[list[float]] = (np.round(matrix, 6) + 0.0).tolist()
    return rows
