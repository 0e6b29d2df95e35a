"""The seam between a pretraining method and everything else.

A method is a module that owns its backbone, heads and state, takes a `Batch` and returns losses. The loop knows
nothing more of it; the loader prepares just what it `needs`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from olivine.backbones import Backbone, BackboneConfig, Embedding, Head
from olivine.components import OwnConfig
from olivine.data.batch import Batch, Cloud
from olivine.data.needs import Inputs, Needs
from olivine.engine.taught import LEARNED_FROM
from olivine.methods.parts.diagnostics import embedding_diagnostics
from olivine.methods.parts.timing import stage


class Method(nn.Module, ABC):
    """A pretraining method.

    Parameters that need a gradient are trained; everything in `state_dict()` (heads, queues, class statistics) is
    saved and restored with a run. Random choices are drawn from `batch.generator()` alone.

    Attributes:
        backbone: what is exported after pretraining.
        heads: what turns its embedding into the features that the losses see, by name; exported with it.
        needs: what samples must hold.
        sources: what the method learns from besides the dataset (a teacher's weights), one line each by name; logged,
            and recorded with the weights.
        digests: SHA-256 of the same, by name; a run is resumed only where they are what they were.
        timings: seconds by stage of the latest forward pass.
        logged: whether the numbers of the next forward pass are for the log, as the loop says; what is only looked at
            may be left out where they are not.
        synchronize: wait for the GPU at the ends of each stage, so that `timings` are true there too; costs speed.
    """

    backbone: Backbone
    heads: nn.ModuleDict
    needs: Needs

    def __init__(self) -> None:
        super().__init__()
        self.sources: dict[str, str] = {}
        self.digests: dict[str, str] = {}
        self.timings: dict[str, float] = {}
        self.logged = True
        self.synchronize = False

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of one batch.

        Returns:
            Scalars by name; `"loss"` is the one that is minimised, the others are logged (detached or not). A name that
            starts with `LEARNED_FROM` counts what the loss is made of and is not logged: a run in which there is none
            for a number of steps (`olivine.engine.taught`) is stopped.
        """

    def head(self, name: str) -> Head:
        """A head by its name."""
        head = self.heads[name]
        assert isinstance(head, Head)
        return head

    def embed(self, cloud: Cloud) -> Embedding:
        """What the head `point` makes of the backbone's embedding of clouds."""
        embedding: Embedding = self.backbone(cloud)
        return embedding.project(self.head("point"))

    @staticmethod
    def learned_from(what: str, count: int, least: int = 1) -> dict[str, Tensor]:
        """What `forward` adds to its losses to say how much it had to learn from.

        Args:
            what: in the plural, for a message.
            count: how many.
            least: how many it takes; a contrast with nothing to tell apart takes 2.
        """
        return {LEARNED_FROM + what: torch.tensor(float(count if count >= least else 0))}

    def diagnostics(self, first: Tensor, second: Tensor) -> dict[str, Tensor]:
        """`embedding_diagnostics` where the numbers of this forward pass are logged, else nothing."""
        return embedding_diagnostics(first, second) if self.logged else {}

    def set_progress(self, step: int, total_steps: int) -> None:
        """Told by the loop before each optimizer step: `step` steps are done of `total_steps`."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Time what runs inside as one stage of this method."""
        return stage(name, self.timings, synchronize=self.synchronize)


class OwnMethodConfig(OwnConfig):
    """Base of a method of your own, `name: module:Class`; the class adds the method's settings."""

    @abstractmethod
    def build(self, backbone: BackboneConfig, inputs: Inputs) -> Method:
        """The method around a fresh backbone, initialised from torch's generator.

        Args:
            backbone: which backbone to build.
            inputs: what its input is.

        Raises:
            UserError: what it needs is not there.
        """
