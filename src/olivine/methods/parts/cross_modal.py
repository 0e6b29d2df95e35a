"""What methods have in common in which a frozen image network teaches the backbone through point-pixel pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from olivine.backbones import Backbone
from olivine.config import Config
from olivine.data.batch import Batch, PixelPairs, in_numbers
from olivine.data.needs import Needs
from olivine.methods.base import Method
from olivine.teachers import Teacher, TeacherCacheConfig, TeacherConfig, prepare_teacher, with_cache


class CrossModalConfig(Config):
    """The settings that every method with an image teacher has."""

    name: str
    """Chooses the method."""
    teacher: TeacherConfig
    """The frozen image encoder."""
    teacher_cache: TeacherCacheConfig | None = None
    """Keep the teacher's features on disk, in half precision; null computes them in every step. Needs images that
    stay the same: `images.crop` and `images.flip` off."""

    def build_teacher(self) -> Teacher:
        """The teacher, made ready for inference, behind its cache where there is one.

        Raises:
            UserError: its weights cannot be read.
        """
        teacher = prepare_teacher(self.teacher.build(), self.teacher.precision, compiled=self.teacher.compile)
        return with_cache(teacher, self.teacher_cache, self.teacher)


class CrossModalMethod(Method):
    """A method with a frozen image teacher.

    The teacher is made anew from its configuration, and therefore neither a parameter nor part of the state; it does
    follow `to(device)`.

    Args:
        config: the settings.
        backbone: the network that is taught.
        out_channels: width of the embedding that points and pixels share.
        teacher: makes the frozen image encoder; called when the heads have drawn their initial weights, which then do
            not depend on what a teacher draws before its own are loaded.
        weak_labels: ask for the weak label of every pair.
        segments: ask for superpixels.
        heads: names of the heads, each of `out_channels`.
    """

    def __init__(
        self,
        config: CrossModalConfig,
        backbone: Backbone,
        teacher: Callable[[], Teacher],
        out_channels: int,
        *,
        weak_labels: bool = False,
        segments: bool = False,
        heads: Sequence[str] = ("point",),
    ) -> None:
        super().__init__()
        self.needs = Needs(
            images=True, weak_labels=weak_labels, segments=segments, still_images=config.teacher_cache is not None
        )
        self.backbone = backbone
        made = {name: backbone.pretraining_head(out_channels, unit=True) for name in heads}
        self.heads = nn.ModuleDict(made)
        encoder = teacher()
        self.sources["teacher"] = encoder.source
        self.digests["teacher"] = encoder.digest()
        # A tuple hides it from the module tree: it is in no state dict and costs DistributedDataParallel nothing.
        self._hidden = (encoder,)

    @property
    def teacher(self) -> Teacher:
        """The frozen image encoder."""
        return self._hidden[0]

    def seen(self, batch: Batch) -> tuple[Tensor, PixelPairs]:
        """The images and the pairs of a batch.

        Raises:
            ValueError: the batch holds none.
        """
        if batch.images is None or batch.pairs is None:
            name = type(self).__name__
            raise ValueError(f"{name} learns from images and pairs, and the batch holds none (see {name}.needs)")
        return in_numbers(batch.images), batch.pairs

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> CrossModalMethod:
        """Carry the hidden teacher along wherever `to`, `cuda` or `double` take the method."""
        self.teacher._apply(fn)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self
