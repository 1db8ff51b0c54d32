"""Which part of the cases a process works on. `encode` and `generate` ask nothing of each other's processes: torchrun's
environment tells each who it is, and the folder they share tells what is done."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from fewstep.runtime.errors import EnvironmentRefused

Item = TypeVar("Item")


@dataclass(frozen=True)
class RankSlice:
    """Every `world`-th from `rank`."""

    rank: int = 0
    world: int = 1

    @classmethod
    def from_environment(cls) -> "RankSlice":
        """What torchrun says; all of it where nobody says anything.

        Raises:
            EnvironmentRefused: RANK and WORLD_SIZE that do not fit.
        """
        told = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        if not all(number.isdecimal() for number in told) or not int(told[0]) < int(told[1]):
            raise EnvironmentRefused(f"RANK={told[0]} and WORLD_SIZE={told[1]} do not fit; unset them, or use torchrun")
        return cls(int(told[0]), int(told[1]))

    def of(self, whole: Sequence[Item]) -> Sequence[Item]:
        """This process's part of what every process lists in the same order."""
        return whole[self.rank :: self.world]

    @property
    def manifest(self) -> int | None:
        """The number of this process's own manifest; None where it is alone."""
        return None if self.world == 1 else self.rank


FULL_SLICE = RankSlice()
