"""OLIVINE: fine-grained image-to-LiDAR contrastive distillation (Zhang & Hou, arXiv 2405.14271).

A frozen image teacher and a 3-D backbone embed the two sides of each point-pixel pair. Three losses join them:
point-pixel InfoNCE on uniformly drawn pairs, a contrastive loss over weak labels on pairs drawn evenly over range and
class, and the consistency of each class with its von Mises–Fisher density.

    images ─ teacher ─ sampled at pairs ─┬─ image_head ──────────────┬─ L_ppkt
                                         └─ supervision.image_head ──┼─────────┬─ L_sup
    cloud ── backbone ─┬─ point level ───────────────────────────────┘         │
                       └─ class level ─────────────────────────────────────────┴─ L_vmf
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from olivine.backbones import Backbone, BackboneConfig, Embedding
from olivine.config import Config
from olivine.data.batch import Batch, PixelPairs
from olivine.data.masks import UNKNOWN
from olivine.data.needs import Inputs
from olivine.errors import OlivineWarning, UserError
from olivine.host import sent
from olivine.methods.olivine.losses import SupervisedForm, weakly_supervised_contrastive
from olivine.methods.olivine.sampling import Sampling, draw_weighted, pair_weights
from olivine.methods.olivine.vmf import ClassStatistics, VmfConfig
from olivine.methods.parts.contrast import draw_uniform, info_nce
from olivine.methods.parts.cross_modal import CrossModalConfig, CrossModalMethod
from olivine.teachers import ImageHead, Teacher


class LossWeights(Config):
    """Weight of each term of the loss, used as given whichever terms are on."""

    ppkt: NonNegativeFloat = 0.5
    """Point-pixel InfoNCE."""
    sup: NonNegativeFloat = 0.5
    """Weakly-supervised contrastive loss."""
    vmf: NonNegativeFloat = 1.0
    """Consistency with the class densities."""


class OlivineConfig(CrossModalConfig):
    """Fine-grained image-to-LiDAR contrastive distillation."""

    name: Literal["olivine"] = "olivine"
    """Chooses this method."""
    feature_dim: int = Field(default=64, ge=2)
    """Size of the embedding that points and pixels share."""
    temperature: PositiveFloat = 0.07
    """Temperature τ of both contrastive losses."""
    pairs: PositiveInt = 4096
    """Pairs drawn per step and process for each contrastive loss; all pairs where there are fewer."""
    supervised: bool = True
    """Learn from weak labels; without, only the point-pixel InfoNCE is left, and no masks are read."""
    supervised_form: SupervisedForm = "published_code"
    """Sum over positives inside the logarithm (`published_code`) or their mean (`paper`); the gradients are equal."""
    sampling: Sampling = "density_category"
    """What the draw for the weakly-supervised loss evens out: range and class, one of them, or nothing."""
    range_bin_m: PositiveFloat = 0.1
    """Width of the range bins of the density, metres: 0.1 for MinkUNet, 1 for VoxelNet."""
    vmf: VmfConfig = Field(default_factory=VmfConfig)
    """Class statistics."""
    weights: LossWeights = Field(default_factory=LossWeights)
    """Weight of each term."""

    def build(self, backbone: BackboneConfig, inputs: Inputs) -> Olivine:
        """The method around a fresh backbone.

        Args:
            backbone: which 3-D network to train.
            inputs: what its input is.

        Raises:
            UserError: `supervised` without weak classes, or the teacher's weights cannot be read.
        """
        return Olivine(self, backbone.build(inputs), self.build_teacher, inputs.weak_classes)


class Supervision(nn.Module):
    """What weak labels teach: the class-level image head, the class statistics, and their two losses.

    Args:
        config: the method's configuration.
        teacher_channels: width of the sampled image features.
        classes: number of weak classes.

    Attributes:
        image_head: projects image features to class level.
        statistics: the density of each class.
    """

    def __init__(self, config: OlivineConfig, teacher_channels: int, classes: int) -> None:
        super().__init__()
        self.config = config
        self.image_head = ImageHead(teacher_channels, config.feature_dim)
        self.statistics = ClassStatistics(classes, config.feature_dim, config.vmf)

    def draw(self, pairs: PixelPairs, generator: torch.Generator) -> Tensor:
        """Indices of the pairs for L_sup, on the CPU.

        Raises:
            UserError: a weak label is neither a class of the mask manifest nor unknown.
        """
        labels, range_m = pairs.host.label, pairs.host.range_m
        classes = len(self.statistics.z)
        strange = labels[(labels >= classes) & (labels != UNKNOWN)]
        if len(strange):
            raise UserError(
                f"a mask holds the value {int(strange[0])}, but its manifest names {classes} classes "
                f"(0…{classes - 1}; {UNKNOWN} is unknown)"
            )
        weights = pair_weights(self.config.sampling, range_m, labels, self.config.range_bin_m)
        return draw_weighted(weights, self.config.pairs, generator)

    def forward(
        self, class_level: Embedding, pairs: PixelPairs, drawn: Tensor, image_features: Tensor
    ) -> tuple[Tensor, Tensor]:
        """L_sup and L_vmf.

        Args:
            class_level: class-level embedding of the clouds, D channels of unit length.
            pairs: all P pairs.
            drawn: [S] indices of the pairs for L_sup, on the CPU.
            image_features: [S, teacher channels] image features of those pairs.
        """
        config = self.config
        k, labels = class_level.of_points(pairs.point[sent(drawn, pairs.point.device)]), pairs.host.label[drawn]
        q = self.image_head(image_features)
        contrast = weakly_supervised_contrastive(k, q, labels, config.temperature, form=config.supervised_form)
        features = class_level.of_points(pairs.point)
        if self.training:
            self.statistics.update(features, pairs.label)
        return contrast, self.statistics.loss(features, pairs.label)


class Olivine(CrossModalMethod):
    """The method: loss = ½ L_ppkt + ½ L_sup + L_vmf with the published weights.

    Every forward pass in training mode counts as one update of the class statistics.

    Args:
        config: the settings.
        backbone: the network that is taught.
        teacher: makes the frozen image encoder.
        weak_classes: number of classes of the weak labels, 0 where there are none.

    Attributes:
        image_head: projects image features to point level.
        supervision: the part that weak labels teach, None where `config.supervised` is off.

    Raises:
        UserError: supervision is asked for, but there are no weak classes.
    """

    def __init__(
        self, config: OlivineConfig, backbone: Backbone, teacher: Callable[[], Teacher], weak_classes: int
    ) -> None:
        heads = ("point", "class") if config.supervised else ("point",)
        super().__init__(config, backbone, teacher, config.feature_dim, weak_labels=config.supervised, heads=heads)
        if config.supervised and weak_classes < 1:
            raise UserError(
                "method.supervised: true needs weak labels, and the data has none; "
                "name a mask folder with data.masks=..., or set method.supervised=false"
            )
        self.config = config
        self.image_head = ImageHead(self.teacher.channels, config.feature_dim)
        self.supervision = Supervision(config, self.teacher.channels, weak_classes) if config.supervised else None

    def set_progress(self, step: int, total_steps: int) -> None:
        """Told before each optimizer step; starts L_vmf after step T.

        Warns (`OlivineWarning`): at step 0, where the run ends before L_vmf starts.
        """
        if self.supervision is None:
            return
        warmup = self.config.vmf.warmup_steps(total_steps)
        if step == 0 and warmup + 1 >= total_steps and self.config.vmf.warmup_fraction is None:
            warnings.warn(
                f"method.vmf.warmup is {warmup} steps but the run has {total_steps}: L_vmf stays zero; "
                "set method.vmf.warmup_fraction=0.2",
                OlivineWarning,
                stacklevel=2,
            )
        self.supervision.statistics.set_progress(step, total_steps)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of one batch.

        Args:
            batch: with images and pairs; 3-D labels are never read.

        Returns:
            `loss`, its terms `loss_ppkt`, `loss_sup`, `loss_vmf` before weighting, and for the log the number of
            `pairs` in the batch, how many were drawn (`pairs_ppkt`, `pairs_sup`), the share of them whose label is
            not known (`pairs_unknown`), each class's concentration and mean resultant length (`kappa/<class>`,
            `resultant/<class>`), the mean `kappa` of the classes seen so far, and the diagnostics of the point-level
            embedding (see `olivine.methods.parts.diagnostics`). Without supervision, only what remains.

        Raises:
            ValueError: the batch holds no images or no pairs.
            UserError: a weak label is neither a class of the mask manifest nor unknown.
        """
        images, pairs = self.seen(batch)
        uniform, weighted = self._draw(pairs, batch.generator())
        with self.stage("teacher"):
            drawn = torch.cat([uniform, weighted])
            image_features = self.teacher.sample(images, pairs.host.image[drawn], pairs.host.uv[drawn])
            points = pairs.point[sent(uniform, images.device)]
        with self.stage("backbone"):
            embedding = self.backbone(batch.cloud)
            point_level = embedding.project(self.head("point"))
        with self.stage("loss"):
            k, q = point_level.of_points(points), self.image_head(image_features[: len(uniform)])
            ppkt = info_nce(k, q, self.config.temperature)
            losses = {"loss": self.config.weights.ppkt * ppkt, "loss_ppkt": ppkt.detach()}
            if self.supervision is not None:
                rest = image_features[len(uniform) :]
                class_level = embedding.project(self.head("class"))
                sup, vmf = self.supervision(class_level, pairs, weighted, rest)
                losses["loss"] = losses["loss"] + self.config.weights.sup * sup + self.config.weights.vmf * vmf
                losses |= {"loss_sup": sup.detach(), "loss_vmf": vmf.detach()}
            logged = self.diagnostics(k, q) | self._diagnostics(pairs, uniform, weighted)
            return losses | logged | self._taught(pairs, len(uniform))

    def _draw(self, pairs: PixelPairs, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Indices of the pairs for L_ppkt and for L_sup, on the CPU."""
        uniform = draw_uniform(len(pairs.voxel), self.config.pairs, generator)
        if self.supervision is None:
            return uniform, uniform[:0]
        return uniform, self.supervision.draw(pairs, generator)

    def _taught(self, pairs: PixelPairs, drawn: int) -> dict[str, Tensor]:
        """What the terms of the loss that have a weight are made of."""
        weights, taught = self.config.weights, dict[str, Tensor]()
        if weights.ppkt > 0 or self.supervision is None:
            taught |= self.learned_from("point-pixel pairs", drawn, least=2)
        if self.supervision is not None and (weights.sup > 0 or weights.vmf > 0):
            taught |= self.learned_from("pairs with a known weak label", int((pairs.host.label != UNKNOWN).sum()))
        return taught

    def _diagnostics(self, pairs: PixelPairs, uniform: Tensor, weighted: Tensor) -> dict[str, Tensor]:
        """What is worth a look in the log besides the losses."""
        values = {"pairs": len(pairs.voxel), "pairs_ppkt": len(uniform)}
        if self.supervision is None:
            return {name: torch.tensor(float(value)) for name, value in values.items()}
        values["pairs_sup"] = len(weighted)
        unknown = (pairs.label == UNKNOWN).sum() / max(len(pairs.label), 1)
        statistics = self.supervision.statistics
        kappa, resultant = statistics.kappa().float(), statistics.resultant().float()
        seen = (statistics.updates > 0).sum().clamp_min(1)
        return {
            **{name: torch.tensor(float(value)) for name, value in values.items()},
            "pairs_unknown": unknown,
            "kappa": kappa.sum() / seen,
            **{f"kappa/{index}": value for index, value in enumerate(kappa)},
            **{f"resultant/{index}": value for index, value in enumerate(resultant)},
        }
