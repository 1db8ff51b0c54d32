"""The shape of a sample's sequence, as numbers: without torch, so that what only plans can know it."""

from dataclasses import dataclass

from fewstep.runtime.errors import LayoutError
from fewstep.runtime.task import Task

TokenGrid = tuple[int, int]  # rows, columns of latent tokens


@dataclass(frozen=True)
class Layout:
    """The shape of one sample's sequence. A batch has one layout: these models read it from their first row only,
    and silently accept a batch of mixed ones."""

    task: Task
    target: TokenGrid
    references: tuple[TokenGrid, ...] = ()
    slots: tuple[int, ...] = ()  # for each reference, the number of text positions before its image slots

    def __post_init__(self) -> None:
        if self.task == "t2i" and self.references:
            raise LayoutError("a text-to-image sample has no reference images; its task is edit")
        if self.slots and len(self.slots) != len(self.references):
            raise LayoutError(f"{len(self.references)} references but {len(self.slots)} slot positions")

    @property
    def target_tokens(self) -> int:
        return self.target[0] * self.target[1]

    @property
    def reference_tokens(self) -> int:
        return sum(rows * columns for rows, columns in self.references)
