"""NumPy's plain numbers in checkpoints, read without NumPy's unpickling.

Training frameworks keep their settings beside the tensors, and among them numbers such as `numpy.float64(0.1)`. The
stand-ins here take the place of NumPy's functions while a file is read with `weights_only=True`. They make Python
numbers out of bytes, and refuse everything that is no single number: arrays, objects, structures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np


class NumberType:
    """Stands in for `numpy.dtype`: the type of one boolean, integer or floating-point number.

    Args:
        code: the type's code, e.g. `"f8"`.
        align: as in `numpy.dtype`; of no meaning for numbers.
        copy: as in `numpy.dtype`; of no meaning here.

    Raises:
        ValueError: another type.
    """

    def __init__(self, code: str, align: bool = False, copy: bool = True) -> None:  # noqa: ARG002 (NumPy's signature)
        if not isinstance(code, str) or len(code) > 3 or code.lstrip("<>=|")[:1] not in ("b", "i", "u", "f"):
            raise ValueError(f"NumPy objects other than plain numbers ({str(code)[:20]!r})")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take the byte order out of what NumPy wrote: (version, byte order, …)."""
        if len(state) > 1 and state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


def number(kind: NumberType, data: bytes | str) -> bool | int | float:
    """Stands in for NumPy's function that makes scalars.

    Args:
        kind: the number's type.
        data: its bytes (text of them in files of old).

    Raises:
        ValueError: not one number of that type.
    """
    if not isinstance(kind, NumberType):
        raise ValueError("NumPy objects other than plain numbers")
    raw = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(raw, bytes) or len(raw) != kind.dtype.itemsize:
        raise ValueError("a damaged number")
    value: bool | int | float = np.frombuffer(raw, kind.dtype)[0].item()
    return value


def plain_globals() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """What a checkpoint may name besides what torch allows: command-line arguments and single numbers."""
    numbers = [(number, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return [argparse.Namespace, (NumberType, "numpy.dtype"), *numbers]
