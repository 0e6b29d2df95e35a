"""Settings of a fine-tuning or probing run; the defaults are the published ones for nuScenes."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, field_validator, model_validator

from olivine.backbones import DOWNSTREAM_MOMENTUM, BackboneConfig, MinkUNetConfig
from olivine.config import Config
from olivine.data.datasets import DatasetConfig
from olivine.engine.config import OptimizerConfig, SGDConfig, TrainConfig
from olivine.engine.experiment import ScoredConfig
from olivine.segmentation.task import Mode


class LossConfig(Config):
    """Weights of the losses in their sum."""

    cross_entropy: NonNegativeFloat = 1.0
    """Weight of the cross-entropy."""

    lovasz: NonNegativeFloat = 1.0
    """Weight of the Lovász-softmax."""


class SegmentConfig(ScoredConfig):
    """Train a backbone for semantic segmentation on a labelled split, then score it on another."""

    kind: Literal["segment"] = "segment"
    """What it is a recipe of."""

    mode: Mode = "finetune"
    """`finetune` trains the whole network; `probe` trains the head alone on frozen features."""

    val_data: DatasetConfig | None = None
    """The dataset to score on, where that is another one with the same classes; None is `data`."""

    calibrate: NonNegativeInt = 0
    """Before the first step, replace the running statistics of the batch norms by their mean over so many training
    batches. Gives probing of a random network (`weights: null`) a fair floor; 0 leaves them as they are."""

    allow_other_inputs: bool = False
    """Use pretrained weights on another grid, or on raw intensities of another range, than they were made for.
    Published results that carry weights from nuScenes to SemanticKITTI do the latter. Other features never fit."""

    backbone: BackboneConfig = MinkUNetConfig(batch_norm_momentum=DOWNSTREAM_MOMENTUM)
    """The network; as in pretraining. Its batch-norm momentum defaults to the published 0.02 here."""

    losses: LossConfig = LossConfig()
    """How the losses are weighted."""

    optimizer: OptimizerConfig = SGDConfig(lr=0.02, head_lr=2.0)
    """The optimizer; `head_lr` is the rate of the head."""

    train: TrainConfig = TrainConfig(epochs=100)
    """The loop."""

    reference_compatible: bool = False
    """Let the mean be that of the published code of this line of work: over all classes, 100 % for those in neither
    labels nor predictions. It stands under `official` in the results either way."""

    write_predictions: bool = False
    """Also write the predictions, in the dataset's own format, to `predictions` in the run's folder, or in that of the
    evaluation."""

    @model_validator(mode="after")
    def _whole_predictions(self) -> SegmentConfig:
        if self.write_predictions and self.eval_beams is not None:
            raise ValueError(
                f"write_predictions=true is of every point of a scan, and eval_beams={self.eval_beams} leaves some "
                "out; set only one"
            )
        return self

    @field_validator("backbone")
    @classmethod
    def _downstream_momentum(cls, value: BackboneConfig) -> BackboneConfig:
        """A MinkUNet's own default is that of pretraining."""
        if not isinstance(value, MinkUNetConfig) or "batch_norm_momentum" in value.model_fields_set:
            return value
        return value.model_copy(update={"batch_norm_momentum": DOWNSTREAM_MOMENTUM})
