"""A trained network and how its input is made: `Model`, on arrays of points, or on batches of frames.

Frames go the way that training and scoring take them, `Model.prepare` and `olivine.data.collate`, so that what is
predicted here is what `olivine segment` and `olivine detect` score.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from olivine.backbones import Backbone, Head
from olivine.backbones.birds_eye import BirdsEyeEmbedding
from olivine.data.batch import Batch, Cloud
from olivine.data.collate import collate
from olivine.data.frame import Frame
from olivine.data.intensity import warn_if_faint
from olivine.data.labels import ClassSet
from olivine.data.needs import Needs
from olivine.data.prepare import Prepare, Prepared
from olivine.data.thinning import does_without
from olivine.data.voxelize import CartesianVoxels, CylindricalVoxels
from olivine.detectors import Detections, Detector
from olivine.errors import UserError
from olivine.streams import stream


class ClassifiedPoints(NamedTuple):
    """What a segmenter says of the points of a cloud.

    Attributes:
        classes: [N] uint8 class 1…C, 0 for a point outside the grid, of which the network says nothing.
        confidence: [N] float32 in 0…1, the softmax of the class scores at that class; 0 outside the grid.
    """

    classes: NDArray[np.uint8]
    confidence: NDArray[np.float32]


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
            intensity: [N] intensities in the sensor's own range; None where there are none, for a network that was
                trained without, or without at times (`trained_without` in its description).
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
        self._scorer()
        (found,) = self.classify_batch(self._batch(points_m, intensity, intensity_max, Needs()))
        return found.classes

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
        detector = self._finder()
        (found,) = self.detect_batch(self._batch(points_m, intensity, intensity_max, detector.needs))
        return found

    @property
    def needs(self) -> Needs:
        """What samples must hold beside their voxels."""
        return Needs() if self.detector is None else self.detector.needs

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    @property
    def sees_intensity(self) -> bool:
        """Whether intensities are among what the network is given."""
        return "intensity" in self.voxels.features or self.needs.intensities

    def prepare(self, frame: Frame) -> Prepared:
        """A frame as the network takes it, voxelised without augmentation, for `olivine.data.collate`.

        Raises:
            UserError: a point is not finite or too far away, or intensities are not of the range that the frame says
                or that raw ones had in training, or there are none and the network was never trained without.
        """
        return self._prepared(frame, self.needs)

    def classify_batch(self, batch: Batch) -> list[ClassifiedPoints]:
        """The class of every point of a batch, frame by frame, for the weights of a segmentation run.

        Args:
            batch: of samples as `prepare` makes them, on the network's device.

        Raises:
            UserError: the weights predict no classes, or scores that are not finite.
        """
        head, cloud = self._scorer(), batch.cloud
        with torch.inference_mode():
            scores = self.network(cloud).project(head).of_voxels()
            self._check_finite(scores, "class scores")
            best = scores.argmax(dim=1)
            chance = scores.float().softmax(dim=1).gather(1, best[:, None]).squeeze(1)
            # A row more stands for "outside", so that -1 needs no special case.
            classes = torch.cat(((best + 1).to(torch.uint8), best.new_zeros(1, dtype=torch.uint8)))[cloud.point_voxel]
            confidence = torch.cat((chance, chance.new_zeros(1)))[cloud.point_voxel]
        ends = cloud.point_offsets[1:-1].cpu()
        parts = (values.cpu().tensor_split(ends) for values in (classes, confidence))
        return [ClassifiedPoints(one.numpy(), other.numpy()) for one, other in zip(*parts, strict=True)]

    def detect_batch(self, batch: Batch) -> list[DetectedObjects]:
        """The objects of each frame of a batch, for the weights of a detection run.

        Args:
            batch: of samples as `prepare` makes them, on the network's device.

        Raises:
            UserError: the weights are of no detection run, or what the network says is not finite.
        """
        detector = self._finder()
        with torch.inference_mode():
            try:
                return [_named(found.cpu(), detector.classes) for found in detector.detections(batch)]
            except UserError as error:
                raise UserError(f"{self.path}: {error}") from error

    def _scorer(self) -> Head:
        """The head that scores classes."""
        if self.classes is None or self.head is None:
            raise UserError("these weights predict no classes; fine-tune or probe them with `olivine segment` first")
        return self.head

    def _finder(self) -> Detector:
        if self.detector is None:
            raise UserError(f"{self.path}: these weights detect no objects; train a detector with `olivine detect`")
        return self.detector

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
        frame = Frame(
            token="",
            scene="",
            points_lidar_m=np.asarray(points_m, np.float32),
            intensity=None if intensity is None else np.asarray(intensity, np.float32),
            intensity_max=self._range(intensity_max, seen=seen and intensity is not None),
            timestamp_us=0,
        )
        if seen:
            warn_if_faint(frame)
        return collate([self._prepared(frame, needs)], seed=0).to(self.device)

    def _prepared(self, frame: Frame, needs: Needs) -> Prepared:
        if "intensity" in self.voxels.features or needs.intensities:
            frame = self._with_intensity(frame)
            self._range(frame.intensity_max, seen=True)
        return Prepare(self.voxels, needs=needs)(frame, stream("none"))

    def _with_intensity(self, frame: Frame) -> Frame:
        """The frame, where it has no intensities with zeros, as a network was shown that was trained without at times.

        Raises:
            UserError: it was not.
        """
        if frame.intensity is not None:
            return frame
        if not does_without(self.about, "intensity"):
            raise UserError(
                f"{self.path}: the network sees intensities, and these points have none; train one without, or with "
                "augment.intensity_dropout"
            )
        top = self.about.get("intensity_max") or 1.0
        return replace(frame, intensity=np.zeros(len(frame.points_lidar_m), np.float32), intensity_max=float(top))

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


def _named(found: Detections, classes: tuple[str, ...]) -> DetectedObjects:
    names = tuple(classes[label - 1] for label in found.labels.tolist())
    return DetectedObjects(found.boxes.float().numpy(), found.scores.float().numpy(), names)
