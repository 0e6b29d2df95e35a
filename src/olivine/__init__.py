"""Pretrain LiDAR backbones from camera images, without human labels.

`olivine.load(run)` gives a trained backbone ready to use on points; `olivine.sparse` is usable alone. Everything else
is driven by recipes, from the command line or through `olivine.pretraining.run` and `olivine.segmentation`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from olivine.inference import Model, load

__version__ = "0.1.0"
__all__ = ["Model", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import `load` and `Model` on first use, so that `import olivine` stays light."""
    if name in ("load", "Model"):
        from olivine import inference

        return getattr(inference, name)
    raise AttributeError(f"module 'olivine' has no attribute {name!r}")
