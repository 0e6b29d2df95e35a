"""A trained network, ready to use on points: `olivine.load(run)`.

    model = olivine.load("runs/my-run")
    features = model.features(points_m, intensity)     # [N, F], one row per point
    classes = model.predict(points_m, intensity)       # [N], for a segmentation run
    boxes, scores, names = model.detect(points_m, intensity)  # of K objects, for a detection run

The file says what network it holds and how its input was made, so nothing else has to be given.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from olivine.backbones import Backbone, BackboneConfig, Head, OwnBackboneConfig
from olivine.backbones.birds_eye import BirdsEyeEmbedding
from olivine.components import is_own
from olivine.data.batch import Batch, Cloud
from olivine.data.collate import collate
from olivine.data.frame import Frame
from olivine.data.intensity import warn_if_faint
from olivine.data.labels import ClassSet, load_class_set, shipped_class_sets
from olivine.data.needs import Inputs, Needs
from olivine.data.prepare import Prepare
from olivine.data.voxelize import CartesianVoxels, CylindricalVoxels, VoxelConfig
from olivine.detection.saved import EVAL_MAX_VOXELS, load_detector
from olivine.detectors import Detector, OwnDetectorConfig
from olivine.errors import OlivineWarning, UserError
from olivine.streams import stream
from olivine.weights.file import Weights, load_weights, read_weights


class DetectedObjects(NamedTuple):
    """The objects that a detector found in a cloud, best first. K objects.

    Attributes:
        boxes: [K, 7] float32 (x, y, z, dx, dy, dz, yaw) in the LiDAR frame, metres and radians, the centre at the
            geometric centre, dx along the heading; yaw counter-clockwise from +x, in no particular period.
        scores: [K] float32 in 0…1.
        names: [K] their classes.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Model:
    """A trained network and how its input is made.

    Attributes:
        network: the backbone, in evaluation mode.
        head: the one that gives class scores, or None where there is none.
        voxels: the grid and the input features, with the limits of scoring.
        classes: what the head predicts, or None without it. Of a class set that is not shipped the names
            are known; its raw labels are then the classes' own numbers.
        about: everything the file says of itself.
        path: the file.
        detector: the whole detector around `network`, or None where the weights are of none.
    """

    network: Backbone
    head: Head | None
    voxels: CylindricalVoxels | CartesianVoxels
    classes: ClassSet | None
    about: dict[str, Any]
    path: Path
    detector: Detector | None = None

    def features(
        self,
        points_m: NDArray[np.floating],
        intensity: NDArray[np.floating] | None,
        *,
        intensity_max: float | None = None,
    ) -> NDArray[np.float32]:
        """The backbone's features of every point, before any head.

        Args:
            points_m: [N, 3] points in the LiDAR frame, metres.
            intensity: [N] intensities in the sensor's own range; None where there are none, for a network without.
            intensity_max: the top of that range (nuScenes 255, KITTI 1); by default that of the data the network was
                trained on, as the weights say.

        Returns:
            [N, F] float32; each point has its voxel's features, a point outside the grid has zeros.

        Raises:
            UserError: shapes do not fit, the network sees intensities and there are none, an intensity lies outside
                the range, the range is unknown or (for raw intensities) another than it was trained on, or the
                network's output is not finite.
        """
        cloud = self._cloud(points_m, intensity, intensity_max)
        inside = (cloud.point_voxel >= 0).nonzero().squeeze(1)
        with torch.inference_mode():
            rows = self.network(cloud).of_points(inside)
        self._check_finite(rows, "features")
        features = np.zeros((len(points_m), rows.shape[1]), np.float32)
        features[inside.cpu().numpy()] = rows.cpu().numpy()
        return features

    def feature_map(
        self,
        points_m: NDArray[np.floating],
        intensity: NDArray[np.floating] | None,
        *,
        intensity_max: float | None = None,
    ) -> NDArray[np.float32]:
        """The map seen from above that the backbone makes of the points, before any head.

        Args: as for `features`.

        Returns:
            [C, Y, X] float32; it covers `voxels.bounds_m`, y and x ascending. Zeros where the network saw nothing.

        Raises:
            UserError: the backbone makes no map; or as for `features`.
        """
        with torch.inference_mode():
            embedding = self.network(self._cloud(points_m, intensity, intensity_max))
            if not isinstance(embedding, BirdsEyeEmbedding):
                raise UserError(f"{self.path}: a {type(self.network).__name__} makes no map seen from above")
            image = embedding.of_map()[0]
        self._check_finite(image, "features")
        return np.asarray(image.cpu().numpy())

    def predict(
        self,
        points_m: NDArray[np.floating],
        intensity: NDArray[np.floating] | None,
        *,
        intensity_max: float | None = None,
    ) -> NDArray[np.uint8]:
        """The class of every point, for the weights of a segmentation run.

        Args: as for `features`.

        Returns:
            [N] uint8 class 1…C of `classes`, 0 outside the grid.

        Raises:
            UserError: the weights are of a pretraining run and predict no classes; or as for `features`.
        """
        if self.classes is None or self.head is None:
            raise UserError("these weights predict no classes; fine-tune or probe them with `olivine segment` first")
        cloud = self._cloud(points_m, intensity, intensity_max)
        with torch.inference_mode():
            scores = self.network(cloud).project(self.head).of_voxels()
        self._check_finite(scores, "class scores")
        per_voxel = (scores.argmax(dim=1) + 1).to(torch.uint8)
        # A row more stands for "outside", so that -1 needs no special case.
        return np.asarray(torch.cat((per_voxel, per_voxel.new_zeros(1)))[cloud.point_voxel].cpu().numpy())

    def detect(
        self,
        points_m: NDArray[np.floating],
        intensity: NDArray[np.floating] | None,
        *,
        intensity_max: float | None = None,
    ) -> DetectedObjects:
        """The objects in a cloud, for the weights of a detection run.

        Points may lie outside of the grid, where nothing is found. A detector that learned from points on the image
        alone (`data.field_of_view`, as is usual for KITTI) knows clouds that are cropped so.

        Args: as for `features`.

        Returns:
            The boxes that the run's `detector` keeps, with their scores and classes; empty arrays where there are none.

        Raises:
            UserError: the weights are of no detection run; or as for `features`.
        """
        if self.detector is None:
            raise UserError(f"{self.path}: these weights detect no objects; train a detector with `olivine detect`")
        batch = self._batch(points_m, intensity, intensity_max, self.detector.needs)
        with torch.inference_mode():
            try:
                (found,) = self.detector.detections(batch)
            except UserError as error:
                raise UserError(f"{self.path}: {error}") from error
        found = found.cpu()
        names = tuple(self.detector.classes[label - 1] for label in found.labels.tolist())
        return DetectedObjects(found.boxes.float().numpy(), found.scores.float().numpy(), names)

    def _cloud(
        self, points_m: NDArray[np.floating], intensity: NDArray[np.floating] | None, intensity_max: float | None
    ) -> Cloud:
        return self._batch(points_m, intensity, intensity_max, Needs()).cloud

    def _batch(
        self,
        points_m: NDArray[np.floating],
        intensity: NDArray[np.floating] | None,
        intensity_max: float | None,
        needs: Needs,
    ) -> Batch:
        lengths = points_m.shape[:1] if intensity is None else intensity.shape
        if points_m.ndim != 2 or points_m.shape[1] != 3 or lengths != points_m.shape[:1]:
            raise UserError(
                f"points_m must be [N, 3] and intensity [N], not {list(points_m.shape)} and {list(lengths)}"
            )
        seen = "intensity" in self.voxels.features or needs.intensities
        if seen and intensity is None:
            raise UserError(f"{self.path}: the network sees intensities, and these points have none; train one without")
        frame = Frame(
            token="",
            scene="",
            points_lidar_m=np.asarray(points_m, np.float32),
            intensity=None if intensity is None else np.asarray(intensity, np.float32),
            intensity_max=self._range(intensity_max, seen=seen),
            timestamp_us=0,
        )
        if seen:
            warn_if_faint(frame)
        sample = Prepare(self.voxels, needs=needs)(frame, stream("none"))
        return collate([sample], seed=0).to(next(self.network.parameters()).device)

    def _range(self, given: float | None, *, seen: bool) -> float:
        """Top of the range of intensities: as given, else as recorded; of no meaning where they are not `seen`."""
        recorded = self.about.get("intensity_max")
        if not seen:
            return given or recorded or 1.0
        if self.voxels.intensity == "raw" and None not in (given, recorded) and given != recorded:
            raise UserError(
                f"{self.path}: trained on raw intensities of 0…{recorded:g}, and intensity_max={given:g} scales none; "
                f"bring them to 0…{recorded:g}, and leave intensity_max out"
            )
        found = recorded if given is None else given
        if found is None:
            raise UserError(
                f"{self.path}: does not say the range of the intensities it was trained on; give intensity_max, the "
                "top of your sensor's (nuScenes 255, KITTI 1)"
            )
        return float(found)

    def _check_finite(self, values: Tensor, what: str) -> None:
        if not bool(values.isfinite().all()):
            raise UserError(f"{self.path}: its {what} of these points are not finite; the weights are of no use")


def load(
    source: Path | str,
    *,
    device: str = "cpu",
    backbone: OwnBackboneConfig | None = None,
    detector: OwnDetectorConfig | None = None,
) -> Model:
    """Load a trained network: a pretrained backbone, one with a head for classes, or a detector.

    Args:
        source: a run folder, or a `weights.safetensors` of one.
        device: where to put the network.
        backbone: of weights of a backbone of your own, its configuration: a weights file never leads to an import.
        detector: of weights of a detector of your own, likewise.

    Returns:
        The network with its input settings, in evaluation mode.

    Raises:
        UserError: no weights there, or they do not say what network they belong to.
    """
    weights = read_weights(source)
    about = weights.about
    absent = [key for key in ("backbone", "in_channels", "voxels") if key not in about]
    if absent:
        raise UserError(f"{weights.path}: has no {', '.join(absent)}; these are not the weights of one of our runs")
    if "detector" in about:
        return _detecting(weights, device, detector)
    try:
        voxels: CylindricalVoxels | CartesianVoxels = TypeAdapter(VoxelConfig).validate_python(about["voxels"])
        network = _backbone(about["backbone"], weights.path, backbone).build(Inputs(voxels))
    except ValidationError as error:
        first = error.errors()[0]
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise UserError(f"{weights.path}: describes a network that this version does not know ({what})") from error
    load_weights(network, weights)
    head = None
    if about.get("classes") and "classes" in weights.heads:
        head = Head(*weights.heads["classes"]["kernel"].shape)
        load_weights(head, weights.head("classes"))
        head.to(device).eval()
    classes = _classes(about["classes"], about.get("heads") or {}, weights.path) if about.get("classes") else None
    return Model(network.to(device).eval(), head, voxels, classes, about, weights.path)


def _detecting(weights: Weights, device: str, own: OwnDetectorConfig | None) -> Model:
    """A detector on points. It is given as many voxels as where its run was scored."""
    network, _ = load_detector(weights, own=own)
    about = weights.about
    if "eval_max_voxels" not in about:
        warnings.warn(
            f"{weights.path}: does not say how many voxels of a frame its scores were made with; {EVAL_MAX_VOXELS} are "
            "taken, as published for KITTI",
            OlivineWarning,
            stacklevel=3,
        )
    voxels: CylindricalVoxels | CartesianVoxels = TypeAdapter(VoxelConfig).validate_python(about["voxels"])
    voxels = voxels.model_copy(update={"max_voxels": about.get("eval_max_voxels", EVAL_MAX_VOXELS)})
    network = network.to(device)
    return Model(network.backbone, None, voxels, None, about, weights.path, network)


def _backbone(described: Any, path: Path, own: OwnBackboneConfig | None) -> BackboneConfig:
    """The configuration of the network that a file describes, or the one that was given for it."""
    name = described.get("name") if isinstance(described, dict) else None
    if own is not None and own.name == name:
        return own
    if is_own(described):
        raise UserError(f"{path}: is of the backbone {name}; give it as olivine.load(..., backbone={name}())")
    found: BackboneConfig = TypeAdapter(BackboneConfig).validate_python(described)
    return found


def _classes(name: str, heads: dict[str, Any], path: Path) -> ClassSet:
    """The classes of the head: those of a shipped set, or of one's own, of which the names are recorded."""
    names = tuple(heads.get("classes", {}).get("names", ()))
    if name in shipped_class_sets():
        shipped = load_class_set(name)
        if names and names != shipped.names:
            raise UserError(f"{path}: the classes it was trained on are not those of {name} in this version")
        return shipped
    if not names:
        raise UserError(f"{path}: was trained on the classes {name}, whose names it does not say")
    count = len(names) + 1
    nowhere = np.zeros(65536, np.uint8)
    nowhere[:count] = np.arange(count)
    return ClassSet(name, names, np.zeros((count, 3), np.uint8), nowhere, np.arange(count, dtype=np.uint16))
