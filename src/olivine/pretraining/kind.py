"""Pretraining as comparisons see it."""

from __future__ import annotations

from olivine.engine.kinds import Kind
from olivine.pretraining.run import MAY_DIFFER, PretrainConfig, check_pretraining, pretrain


class Pretraining(Kind[PretrainConfig]):
    """Pretraining of a backbone."""

    config = PretrainConfig
    may_differ = MAY_DIFFER

    def perform(self, config: PretrainConfig) -> None:
        """Pretrain."""
        pretrain(config, resume=True)

    def check(self, config: PretrainConfig) -> None:
        """Refuse what `pretrain` would."""
        check_pretraining(config)
