"""spconv-triton as a peer: our networks built from its layers, which have spconv's names and meaning."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from olivine.sparse import SparseTensor
from olivine.sparse.grid import GridTensor


def peer(network: nn.Module, tensor: SparseTensor | GridTensor) -> Callable[[], Tensor]:
    """A run of the same network of its layers, on the same input.

    Args:
        network: MinkUNet34C or VoxelBackBone8x of ours.
        tensor: its input.

    Raises:
        ImportError: spconv-triton is not installed.
    """
    _stand_in()
    import spconv_networks as peers

    made: Any
    if isinstance(tensor, SparseTensor):
        made, grid = peers.SpconvMinkUNet(network), peers.on_grid(tensor.coordinates)  # type: ignore[arg-type]
    else:
        made = peers.SpconvVoxelBackBone8x(network)  # type: ignore[arg-type]
        grid = (tensor.indices, list(tensor.spatial_shape), tensor.batch_size)
    made = made.to(tensor.features.device).train(network.training)

    def run() -> Tensor:
        out = made(tensor.features, *grid)
        rows: Tensor = out if isinstance(out, Tensor) else out.features
        return rows

    return run


def _stand_in() -> None:
    """Let `import spconv` find spconv-triton, whose modules have the same names."""
    for name in ("", ".pytorch", ".pytorch.ops"):
        sys.modules[f"spconv{name}"] = importlib.import_module(f"spconv_triton{name}")
