"""The seam between a detector and everything else.

A detector is a module that owns its backbone and all that stands behind it, takes a `Batch`, and returns losses or
boxes. The task of detection (`olivine.detection`) knows nothing more of it; the loader prepares just what it `needs`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from olivine.backbones import Backbone, BackboneConfig
from olivine.components import OwnConfig
from olivine.data.batch import Batch
from olivine.data.needs import Inputs, Needs
from olivine.detectors.parts.detections import Detections


class Detector(nn.Module, ABC):
    """A network that finds objects.

    Random choices of a training step are drawn from `batch.generator()`, or, inside layers that know no
    other (dropout), from torch's own generator, which the loop keys for every step.

    Attributes:
        backbone: the part that pretrained weights fit.
        classes: names of the classes; class c is `classes[c - 1]`.
        needs: what samples must hold beside the cloud, its boxes in training excepted.
    """

    backbone: Backbone
    classes: tuple[str, ...]
    needs: Needs = Needs()

    @property
    @abstractmethod
    def heads(self) -> dict[str, nn.Module]:
        """What stands behind the backbone, by the names under which it is saved (`olivine.weights.file`)."""

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of a batch with boxes of `classes`.

        Returns:
            Scalars: `loss`, which is minimised, and its weighted parts.
        """

    @abstractmethod
    def detections(self, batch: Batch) -> list[Detections]:
        """The objects of each frame of a batch, without gradients.

        Raises:
            UserError: what the network says is not finite.
        """


class OwnDetectorConfig(OwnConfig):
    """Base of a detector of your own, `name: module:Class`; the class adds the detector's settings."""

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; class c is `classes[c - 1]`."""

    @abstractmethod
    def build(self, backbone: BackboneConfig, inputs: Inputs) -> Detector:
        """The detector around a fresh backbone, initialised from torch's generator.

        Args:
            backbone: which backbone to build.
            inputs: what its input is.

        Raises:
            UserError: the backbone is of another kind than the detector stands on.
        """
