"""A trained backbone, ready to use on points: `olivine.load(run)`.

    model = olivine.load("runs/my-run")
    features = model.features(points_m, intensity)     # [N, F], one row per point
    classes = model.predict(points_m, intensity)       # [N], for a segmentation run

The file says what network it holds and how its input was made, so nothing else has to be given.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from olivine.backbones import BackboneConfig, MinkUNet
from olivine.data.batch import Cloud
from olivine.data.collate import collate
from olivine.data.frame import Frame
from olivine.data.intensity import warn_if_faint
from olivine.data.labels import ClassSet, load_class_set, shipped_class_sets
from olivine.data.prepare import Prepare
from olivine.data.voxelize import CartesianVoxels, CylindricalVoxels, VoxelConfig
from olivine.errors import UserError
from olivine.sparse import SparseTensor
from olivine.streams import stream
from olivine.weights.file import load_weights, read_weights


@dataclass(frozen=True)
class Model:
    """A trained network and how its input is made.

    Attributes:
        network: the backbone, in evaluation mode.
        voxels: the grid and the input features.
        classes: what the head predicts, or None for a pretrained backbone. Of a class set that is not shipped the names
            are known; its raw labels are then the classes' own numbers.
        about: everything the file says of itself.
        path: the file.
    """

    network: MinkUNet
    voxels: CylindricalVoxels | CartesianVoxels
    classes: ClassSet | None
    about: dict[str, Any]
    path: Path

    def features(
        self, points_m: NDArray[np.floating], intensity: NDArray[np.floating], *, intensity_max: float | None = None
    ) -> NDArray[np.float32]:
        """The backbone's features of every point, before any head.

        Args:
            points_m: [N, 3] points in the LiDAR frame, metres.
            intensity: [N] intensities in the sensor's own range.
            intensity_max: the top of that range (nuScenes 255, KITTI 1); by default that of the data the network was
                trained on, as the weights say.

        Returns:
            [N, F] float32; each point has its voxel's features, a point outside the grid has zeros.

        Raises:
            UserError: shapes do not fit, an intensity lies outside the range, the range is unknown or (for raw
                intensities) another than it was trained on, or the network's output is not finite.
        """
        cloud = self._cloud(points_m, intensity, intensity_max)
        with torch.inference_mode():
            rows = self.network.forward_features(SparseTensor(cloud.features, cloud.coordinates)).features
        self._check_finite(rows, "features")
        return _per_point(rows, cloud.point_voxel)

    def predict(
        self, points_m: NDArray[np.floating], intensity: NDArray[np.floating], *, intensity_max: float | None = None
    ) -> NDArray[np.uint8]:
        """The class of every point, for the weights of a segmentation run.

        Args: as for `features`.

        Returns:
            [N] uint8 class 1…C of `classes`, 0 outside the grid.

        Raises:
            UserError: the weights are of a pretraining run and predict no classes; or as for `features`.
        """
        if self.classes is None:
            raise UserError("these weights predict no classes; fine-tune or probe them with `olivine segment` first")
        cloud = self._cloud(points_m, intensity, intensity_max)
        with torch.inference_mode():
            scores = self.network(SparseTensor(cloud.features, cloud.coordinates)).features
        self._check_finite(scores, "class scores")
        classes = (scores.argmax(dim=1) + 1).to(torch.uint8)
        return np.asarray(_per_point(classes[:, None], cloud.point_voxel)[:, 0])

    def _cloud(
        self, points_m: NDArray[np.floating], intensity: NDArray[np.floating], intensity_max: float | None
    ) -> Cloud:
        if points_m.ndim != 2 or points_m.shape[1] != 3 or intensity.shape != points_m.shape[:1]:
            raise UserError(
                f"points_m must be [N, 3] and intensity [N], not {list(points_m.shape)} and {list(intensity.shape)}"
            )
        frame = Frame(
            token="",
            scene="",
            points_lidar_m=np.asarray(points_m, np.float32),
            intensity=np.asarray(intensity, np.float32),
            intensity_max=self._range(intensity_max),
            timestamp_us=0,
        )
        if "intensity" in self.voxels.features:
            warn_if_faint(frame)
        sample = Prepare(self.voxels)(frame, stream("none"))
        return collate([sample], seed=0).to(next(self.network.parameters()).device).cloud

    def _range(self, given: float | None) -> float:
        """Top of the range of intensities: as given, else as recorded; of no meaning to a network that sees none."""
        recorded = self.about.get("intensity_max")
        if "intensity" not in self.voxels.features:
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


def load(source: Path | str, *, device: str = "cpu") -> Model:
    """Load a trained backbone.

    Args:
        source: a run folder, or a `weights.safetensors` of one.
        device: where to put the network.

    Returns:
        The network with its input settings, in evaluation mode.

    Raises:
        UserError: no weights there, or they do not say what network they belong to.
    """
    weights = read_weights(source)
    about = weights.about
    absent = [key for key in ("backbone", "in_channels", "voxels") if key not in about]
    if absent or "final.kernel" not in weights.tensors:
        lacking = ", ".join([*absent, *(["final.kernel"] if "final.kernel" not in weights.tensors else [])])
        raise UserError(f"{weights.path}: has no {lacking}; these are not the weights of one of our runs")
    try:
        backbone: BackboneConfig = TypeAdapter(BackboneConfig).validate_python(about["backbone"])
        voxels: CylindricalVoxels | CartesianVoxels = TypeAdapter(VoxelConfig).validate_python(about["voxels"])
    except ValidationError as error:
        first = error.errors()[0]
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise UserError(f"{weights.path}: describes a network that this version does not know ({what})") from error
    heads = about.get("heads") or {}
    network = backbone.build(
        about["in_channels"],
        weights.tensors["final.kernel"].shape[-1],
        class_head=any(key.startswith("final_class_level.") for key in weights.tensors),
        # Files from before heads were recorded say it by their task.
        normalize=heads["final"]["normalized"] if "final" in heads else about.get("task") == "pretraining",
    )
    load_weights(network, weights)
    classes = _classes(about["classes"], heads, weights.path) if about.get("classes") else None
    return Model(network.to(device).eval(), voxels, classes, about, weights.path)


def _classes(name: str, heads: dict[str, Any], path: Path) -> ClassSet:
    """The classes of the head: those of a shipped set, or of one's own, of which the names are recorded."""
    names = tuple(heads.get("final", {}).get("names", ()))
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


def _per_point(rows: Tensor, point_voxel: Tensor) -> NDArray[Any]:
    """Each voxel's row for all its points; zeros for points outside the grid."""
    padded = torch.cat((rows, rows.new_zeros(1, rows.shape[1])))
    result: NDArray[Any] = padded[point_voxel].cpu().numpy()
    return result
