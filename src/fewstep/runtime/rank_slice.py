"""Which part of the cases a process works on.

The processes of `encode` and `generate` do not communicate. torchrun's environment gives each its rank, and the shared
folder shows what is already done.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from fewstep.runtime.errors import EnvironmentRefused

Item = TypeVar("Item")


@dataclass(frozen=True)
class RankSlice:
    """Every `world`-th element, from element `rank` on."""

    rank: int = 0
    world: int = 1

    @classmethod
    def from_environment(cls) -> "RankSlice":
        """The slice by torchrun's environment variables RANK and WORLD_SIZE; everything if they are not set.

        Raises:
            EnvironmentRefused: RANK and WORLD_SIZE do not fit each other.
        """
        told = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        if not all(number.isdecimal() for number in told) or not int(told[0]) < int(told[1]):
            raise EnvironmentRefused(f"RANK={told[0]} and WORLD_SIZE={told[1]} do not fit; unset them, or use torchrun")
        return cls(int(told[0]), int(told[1]))

    def of(self, whole: Sequence[Item]) -> Sequence[Item]:
        """This process's part of a list that is the same in every process."""
        return whole[self.rank :: self.world]

    @property
    def manifest(self) -> int | None:
        """The number of this process's own manifest; None if it is the only process."""
        return None if self.world == 1 else self.rank


FULL_SLICE = RankSlice()
