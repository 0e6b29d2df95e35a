"""The device that tests of layers compute on: the CPU, or what `OLIVINE_TEST_DEVICE` names, `cuda` or `cuda:1`.

Tests that compare with golden files and definitions move their tensors and layers `there`; oracles and files stay on
the CPU. On a GPU the paths are our programs in Triton and PyTorch.
"""

import contextlib
import os

import pytest
import torch

from builders import native as on_cpu
from olivine.sparse import SparseTensor
from olivine.sparse.engines import triton_engine, using
from olivine.sparse.engines.reference import Reference
from olivine.sparse.grid import GridTensor

DEVICE = torch.device(os.environ.get("OLIVINE_TEST_DEVICE") or "cpu")
PATHS = on_cpu.PATHS if DEVICE.type == "cpu" else ("triton", "pytorch")
NOISE = 0.0 if DEVICE.type == "cpu" else 1e-10
"""By how much two backward passes in float64 may differ: PyTorch adds atomically on GPUs."""


@contextlib.contextmanager
def taking(path):
    """A block in which sparse layers take the named path of the device."""
    with on_cpu.taking(path) if DEVICE.type == "cpu" else using(triton_engine() if path == "triton" else Reference()):
        yield


@pytest.fixture(params=PATHS)
def path(request):
    """Runs a test on both paths; the name of the one it is on."""
    if request.param == "native" and on_cpu.native.library() is None:
        pytest.skip("the C++ kernels are off")
    if request.param == "triton":
        pytest.importorskip("triton")
    with taking(request.param):
        yield request.param


def there(value):
    """A tensor, a module or a sparse tensor, on the device; a sparse tensor forgets its maps."""
    if isinstance(value, SparseTensor):
        return SparseTensor(there(value.features), there(value.coordinates), tensor_stride=value.tensor_stride)
    if isinstance(value, GridTensor):
        return GridTensor(there(value.features), there(value.indices), value.spatial_shape, value.batch_size)
    return value.to(DEVICE)
