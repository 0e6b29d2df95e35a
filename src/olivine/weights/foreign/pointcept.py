"""MinkUNet of Pointcept, which computes it by MinkowskiEngine: our names below `backbone.`, and a stem of 5×5×5.

Its other U-Net, SpUNet on spconv, is another network: strided convolutions change the channels there, norms add 1e-3,
and the first block of a stage in the encoder has no projection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from olivine.backbones import MinkUNetConfig
from olivine.errors import UserError
from olivine.weights.file import read_weights
from olivine.weights.foreign.files import described, network_tensors, opened, write_described
from olivine.weights.foreign.minkowski import found_in, published_state
from olivine.weights.foreign.minkunet import CLASSES, FIRST_KERNEL, check_described, save_stated

_CONTAINER, _PREFIX = "state_dict", "backbone."
_SPUNET = "conv_input.0.weight"
_WIDE = 5


def export_pointcept(run: Path, out: Path) -> Path:
    """Write a run's weights as `{"state_dict": tensors, "olivine": description}`.

    A segmenter goes out with its head of classes, a pretrained backbone without its heads. A stem of 3×3×3 becomes the
    middle of one of 5×5×5 that is zero around it, which computes the same.

    Args:
        run: run folder or weights file, of a MinkUNet with one convolution in its stem.
        out: the `.pth` file; must not exist.

    Raises:
        UserError: no weights there, they are of another network, the file exists, or it cannot be written.
    """
    weights = read_weights(run)
    if FIRST_KERNEL not in weights.tensors or "stem2.0.kernel" in weights.tensors:
        raise UserError(
            f"{weights.path}: is of another network than Pointcept's, a MinkUNet with one convolution in its stem"
        )
    config = MinkUNetConfig.model_validate(weights.about.get("backbone", {}))
    heads = {name: head for name, head in weights.heads.items() if name == CLASSES}
    tensors = published_state(replace(weights, heads=heads))
    tensors[FIRST_KERNEL] = _widened(tensors[FIRST_KERNEL])
    about = {
        **weights.about,
        "backbone": config.model_copy(update={"stem": (_WIDE,)}).model_dump(mode="json"),
        "heads": {name: said for name, said in weights.about.get("heads", {}).items() if name in heads},
    }
    return write_described(out, _CONTAINER, tensors, about, _PREFIX)


def _widened(kernel: Tensor) -> Tensor:
    """[27, C_in, C_out] of 3×3×3 cells as [125, C_in, C_out] of 5×5×5; wide ones as they are."""
    if len(kernel) == _WIDE**3:
        return kernel
    wide = kernel.new_zeros(_WIDE, _WIDE, _WIDE, *kernel.shape[1:])
    wide[1:-1, 1:-1, 1:-1] = kernel.view(3, 3, 3, *kernel.shape[1:])
    return wide.flatten(0, 2)


def import_pointcept(file: Path, out: Path, overrides: Sequence[str] = ()) -> Path:
    """Read a MinkUNet checkpoint of Pointcept into a folder of weights.

    Its last layer, `final`, comes along as the head that scores classes where their set is named
    (`classes=semantickitti`), and is left out otherwise.

    Args:
        file: the checkpoint; unpickled with `weights_only=True`.
        out: folder to write `weights.safetensors` and `weights.json` to; must not hold any yet.
        overrides: `key=value` settings of `olivine.weights.foreign.stated.ImportSettings`, for what the file does not
            say; a file of `export_pointcept` says all.

    Returns:
        Path of the weights.

    Raises:
        UserError: the file cannot be read, is damaged or holds another network, leaves something open that is not
            given, or `out` holds weights already.
    """
    content = opened(file, out)
    inner = content.get(_CONTAINER)
    if any(str(key).endswith(_SPUNET) for key in (inner if isinstance(inner, dict) else content)):
        raise UserError(
            f"{file}: holds SpUNet, another network than MinkUNet: its strided convolutions change the channels, its "
            "norms add 1e-3 to the variance, and the blocks of its encoder project nothing"
        )
    tensors = network_tensors(content, (_CONTAINER,), FIRST_KERNEL, "MinkUNet", file)
    source = f"{file.name} (Pointcept)"
    found = found_in(tensors, file)
    about = described(content, tensors, file, overrides)
    if about is None:
        return save_stated(found, content, out, overrides, source)
    check_described(about, file)
    return found.save(out, {**about, "source": source})
