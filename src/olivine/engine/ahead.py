"""Batches on their way to a device while the one before is worked on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

from olivine.data.batch import Batch

T = TypeVar("T")
S = TypeVar("S")


def on_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches on a device, in their order.

    On a GPU the next one is copied by a stream of its own while the kernels of this one run; it is therefore read from
    `batches` one step early. The copies are of pinned memory: of the loader's (`Loader` with `pin`), else of their own.

    Args:
        batches: on the CPU.
        device: where to.
    """
    if device.type != "cuda":
        return (batch.to(device) for batch in batches)
    lane = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copied(batch: Batch) -> tuple[Batch, Any]:
        with torch.cuda.stream(lane):
            return batch.to(device), lane.record_event()

    def handed(copy: tuple[Batch, Any]) -> Batch:
        batch, arrived = copy
        stream = torch.cuda.current_stream(device)
        # Not for all of the lane: the next batch is on its way there already.
        stream.wait_event(arrived)
        # Their memory was taken for the lane, and must not be given away before this stream has read it, too.
        for tensor in batch.tensors():
            tensor.record_stream(stream)
        return batch

    return one_ahead(batches, copied, handed)


def one_ahead(items: Iterator[T], begin: Callable[[T], S], finish: Callable[[S], T]) -> Iterator[T]:
    """Every item begun and finished, in order, the next one begun before this one is handed out.

    Args:
        items: the items.
        begin: starts what is done to an item.
        finish: waits for what was started.
    """
    ahead: list[S] = []
    for item in items:
        begun = begin(item)
        if ahead:
            yield finish(ahead.pop())
        ahead.append(begun)
    if ahead:
        yield finish(ahead.pop())
