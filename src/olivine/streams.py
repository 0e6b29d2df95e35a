"""Random streams: the one home of every generator, each keyed by what it is for and where in the work it stands.

A key starts with its purpose, a word, and no two keys give one stream: NumPy would pad (3, 5) with zeros to (3, 5, 0)
and cut long numbers into pieces, so the whole key is digested first. Nothing is drawn from global generators, save that
torch's is keyed anew for layers that know no other.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
import torch

Purpose = Literal[
    "order of frames",
    "sample",
    "batch",
    "look at a batch",
    "method",
    "clusters",
    "step",
    "initial weights",
    "untrained teacher",
    "scene",
    "town",
    "texture",
    "example",
    "none",
]
"""What random numbers are drawn for; a new one gets a word of its own here, and its first draws a line in the tests."""


def stream(purpose: Purpose, *key: int) -> np.random.Generator:
    """A NumPy generator.

    Args:
        purpose: what it is for.
        key: where in the work it stands, e.g. (seed, epoch); integers of any size and number.
    """
    return np.random.Generator(np.random.PCG64(_digest(purpose, key)))


def torch_stream(purpose: Purpose, *key: int) -> torch.Generator:
    """A torch generator on the CPU; arguments as for `stream`."""
    return torch.Generator().manual_seed(number(purpose, *key))


def number(purpose: Purpose, *key: int) -> int:
    """A seed in 0…2⁶³ - 1, for what is handed on or takes nothing but numbers; arguments as for `stream`."""
    return _digest(purpose, key) >> 65


def seed_torch(purpose: Purpose, *key: int) -> None:
    """Key torch's own generators, on all devices, which initialisation and dropout draw from; as for `stream`."""
    torch.manual_seed(number(purpose, *key))


def _digest(purpose: Purpose, key: tuple[int, ...]) -> int:
    """128 bits of a key."""
    text = "/".join((purpose, *(str(int(part)) for part in key)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")
