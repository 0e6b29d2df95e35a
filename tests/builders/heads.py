"""Looking at what passes through the heads of a method."""

from __future__ import annotations

from torch import Tensor

from olivine.backbones import Head


def rows_of(head: Head) -> list[Tensor]:
    """The rows that a head hands out from now on, a tensor for every call."""
    seen: list[Tensor] = []
    head.register_forward_hook(lambda module, inputs, output: seen.append(output))
    finish = head.finish

    def finished(rows: Tensor) -> Tensor:
        seen[-1] = finish(rows)
        return seen[-1]

    head.finish = finished  # type: ignore[method-assign]
    return seen
