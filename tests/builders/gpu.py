"""The programs of `olivine.sparse.engines.gpu` where there is no GPU: interpreted, in few and large blocks.

Triton's interpreter takes about as long for a program of any size, so that tests choose blocks which a GPU would not
hold. On a machine with a GPU the same tests run the programs on it, in the blocks that are chosen for it.
"""

import pytest
import torch

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")


@pytest.fixture
def engine():
    """The engine, on blocks that make it quick to interpret."""
    pytest.importorskip("triton")
    from olivine.sparse.engines import triton_engine

    found = triton_engine()
    if GPU:
        yield found
        return
    with pytest.MonkeyPatch.context() as patch:
        _enlarge(patch)
        yield found


def _enlarge(patch):
    from olivine.gpu.launch import power_of_two
    from olivine.sparse.engines.gpu import choices, engine, norms, plans, voxels
    from olivine.sparse.engines.gpu.choices import Choice

    def side(channels):
        return max(choices.LEAST, power_of_two(channels))

    def convolution(rows, pairs, cells, c_in, c_out, precision):
        inner, together = choices.narrow(cells, c_in) or (side(c_in), 1)
        return Choice(min(4096, side(rows)), inner, side(c_out), 4, 2, together)

    def weight_gradient(c_in, c_out, precision):
        return Choice(1024, side(c_in), side(c_out), 4, 2)

    patch.setattr(choices, "convolution", convolution)
    patch.setattr(choices, "weight_gradient", weight_gradient)
    patch.setattr(choices, "chunk_length", lambda pairs, tiles: 1024)
    for module in (plans, voxels):
        patch.setattr(module, "ROWS", 4096)
    for name in ("_SUM_ROWS", "_SUM_NUMBERS"):
        patch.setattr(engine, name, 4096)
    patch.setattr(norms, "_ROWS", 512)
    patch.setattr(norms, "_WIDE", 256)
