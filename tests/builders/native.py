"""The two ways to compute: by the C++ kernels and by PyTorch."""

from __future__ import annotations

import contextlib
import ctypes
import mmap

import pytest
import torch

from olivine import native

PATHS = ("native", "pytorch")
_NO_ACCESS = 0  # PROT_NONE


def taking(path):
    """A block in which sparse layers take the named path."""
    return native.disabled() if path == "pytorch" else contextlib.nullcontext()


@pytest.fixture(params=PATHS)
def path(request):
    """Runs a test on both paths; the name of the one it is on."""
    if request.param == "native" and native.library() is None:
        pytest.skip("the C++ kernels are off")
    with taking(request.param):
        yield request.param


@pytest.fixture
def kernels():
    """The C++ kernels, without which the test makes no sense."""
    library = native.library()
    if library is None:
        pytest.skip("the C++ kernels are off")
    return library


class Guard:
    """Tensors that begin behind known numbers and end where memory does that may not be touched.

    What is written before them is found, what is read or written behind them ends the process.
    """

    MARGIN = 64
    INTEGER = 77

    def __init__(self, monkeypatch):
        self._margins = []
        self._monkeypatch = monkeypatch

    def wrap(self, tensor):
        """A contiguous copy of the tensor, behind NaN, or behind 77 for integers."""
        return self._amid(tensor.shape, tensor.dtype).copy_(tensor)

    def allocations(self):
        """From now on, guard also what `torch.empty`, `torch.empty_like` and `Tensor.new_empty` return."""
        self._monkeypatch.setattr(torch, "empty", lambda *shape, dtype=torch.float32: self._amid(shape, dtype))
        self._monkeypatch.setattr(torch, "empty_like", lambda like: self._amid(like.shape, like.dtype))
        self._monkeypatch.setattr(
            torch.Tensor, "new_empty", lambda like, *shape: self._amid(shape, like.dtype), raising=False
        )

    def assert_untouched(self):
        """Nothing was written before any guarded tensor."""
        assert self._margins
        for margin in self._margins:
            assert bool(margin.isnan().all() if margin.is_floating_point() else (margin == self.INTEGER).all())

    def _amid(self, shape, dtype):
        size = torch.Size(shape).numel()
        count = size + self.MARGIN
        pages = -(-count * dtype.itemsize // mmap.PAGESIZE)
        memory = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
        whole = torch.frombuffer(memory, dtype=torch.uint8)
        end = pages * mmap.PAGESIZE
        # The tensor keeps the mapping alive, which forgets the protection when it goes.
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(whole.data_ptr() + end), mmap.PAGESIZE, _NO_ACCESS) == 0
        buffer = whole[end - count * dtype.itemsize : end].view(dtype)
        buffer.fill_(torch.nan if dtype.is_floating_point else self.INTEGER)
        self._margins.append(buffer[: self.MARGIN])
        return buffer[self.MARGIN :].view(shape)
