"""The two ways to compute: by the C++ kernels and by PyTorch."""

from __future__ import annotations

import contextlib

import pytest
import torch

from olivine.sparse import native

PATHS = ("native", "pytorch")


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


@contextlib.contextmanager
def threads(count):
    """A block with another number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Guard:
    """Puts tensors amid a larger buffer, to see what is read or written beyond their ends."""

    MARGIN = 64
    INTEGER = 77

    def __init__(self, monkeypatch):
        self._buffers = []
        self._monkeypatch = monkeypatch

    def wrap(self, tensor):
        """A contiguous copy of the tensor, surrounded by NaN, or by 77 for integers."""
        return self._amid(tensor.shape, tensor.dtype).copy_(tensor)

    def allocations(self):
        """From now on, guard also what `torch.empty`, `torch.empty_like` and `Tensor.new_empty` return."""
        self._monkeypatch.setattr(torch, "empty", lambda *shape, dtype=torch.float32: self._amid(shape, dtype))
        self._monkeypatch.setattr(torch, "empty_like", lambda like: self._amid(like.shape, like.dtype))
        self._monkeypatch.setattr(
            torch.Tensor, "new_empty", lambda like, *shape: self._amid(shape, like.dtype), raising=False
        )

    def assert_untouched(self):
        """Nothing was written beyond the ends of any guarded tensor."""
        assert self._buffers
        for buffer in self._buffers:
            for edge in (buffer[: self.MARGIN], buffer[-self.MARGIN :]):
                assert bool(edge.isnan().all() if edge.is_floating_point() else (edge == self.INTEGER).all())

    def _amid(self, shape, dtype):
        size = torch.Size(shape).numel()
        fill = torch.nan if dtype.is_floating_point else self.INTEGER
        buffer = torch.full((size + 2 * self.MARGIN,), fill, dtype=dtype)
        self._buffers.append(buffer)
        return buffer[self.MARGIN : self.MARGIN + size].view(shape)
