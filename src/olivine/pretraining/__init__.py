"""From a recipe to a pretrained backbone."""

from olivine.pretraining.run import PretrainConfig, check_pretraining, prepare_for, pretrain

__all__ = ["PretrainConfig", "check_pretraining", "prepare_for", "pretrain"]
