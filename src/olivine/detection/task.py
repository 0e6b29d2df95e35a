"""What the loop trains for detection: a detector and the losses of its boxes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from olivine.backbones import Backbone
from olivine.data.batch import Batch
from olivine.detectors import Detections, Detector
from olivine.engine.taught import LEARNED_FROM
from olivine.errors import UserError
from olivine.host import waiting


class DetectionTask(nn.Module):
    """A detector, as the loop and the evaluation know it.

    Args:
        detector: the network.
        source: what it is called where its predictions are of no use.

    Attributes:
        detector: the network.
    """

    def __init__(self, detector: Detector, *, source: str = "the network") -> None:
        super().__init__()
        self.detector = detector
        self._source = source

    @property
    def backbone(self) -> Backbone:
        """The part that pretrained weights fit."""
        return self.detector.backbone

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of a batch with boxes."""
        assert batch.boxes is not None
        losses = self.detector.losses(batch)
        losses[f"{LEARNED_FROM}objects"] = torch.tensor(float(len(batch.boxes.label)))
        return losses

    def set_progress(self, step: int, total_steps: int) -> None:
        """Nothing moves over a run."""

    @torch.no_grad()
    def predict(self, batch: Batch) -> list[Detections]:
        """The objects of each frame of a batch, on the CPU.

        Raises:
            UserError: what the network says is not finite.
        """
        try:
            with waiting("the objects of a batch"):
                return [found.cpu() for found in self.detector.detections(batch)]
        except UserError as error:
            raise UserError(f"{self._source}: {error}") from error
