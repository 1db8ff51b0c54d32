"""The layout of a sample's sequence, as Python numbers: without torch, so that code that only plans can use it."""

from dataclasses import dataclass

from fewstep.runtime.errors import LayoutError
from fewstep.runtime.task import Task

TokenGrid = tuple[int, int]  # rows, columns of latent tokens


@dataclass(frozen=True)
class Layout:
    """The layout of one sample's sequence.

    All samples of a batch have one layout. These models read it from their first row only, and would accept a mixed
    batch without any error.

    Args:
        target: rows and columns of the target's latent tokens.
        references: the same of each reference.
        slots: for each reference, the number of text positions before its image slots.

    Raises:
        LayoutError: references in a text-to-image sample, or slots that do not fit the references.
    """

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
