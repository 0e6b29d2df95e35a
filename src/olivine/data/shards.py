"""Shares of a dataset's frames, for runs that several processes or machines do together."""

from __future__ import annotations

import re
from dataclasses import dataclass

from olivine.errors import UserError


@dataclass(frozen=True)
class Shard:
    """Which share of the frames a run takes: the `number`-th of `of`, from 1."""

    number: int = 1
    of: int = 1

    @staticmethod
    def parse(text: str) -> Shard:
        """Read `i/n`.

        Raises:
            UserError: not two numbers with 1 ≤ i ≤ n.
        """
        match = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise UserError(f"--shard {text}: write i/n with 1 ≤ i ≤ n, e.g. --shard 3/8")
        return Shard(int(match[1]), int(match[2]))

    def frames(self, count: int) -> range:
        """Its frames among `count`: every `of`-th."""
        return range(self.number - 1, count, self.of)
