"""The shapes of a batch, which decide what an iteration takes. Without torch."""

from dataclasses import dataclass

from fewstep.runtime.task import Task


@dataclass(frozen=True)
class BatchShape:
    """The shapes of a batch.

    Args:
        text: the number of text positions of its longest prompt.
        references: the token grids of its references.
        padded: whether prompts have unequal lengths, which requires a mask.
    """

    task: Task
    target: tuple[int, int]
    text: int
    text_width: int
    references: tuple[tuple[int, int], ...] = ()
    padded: bool = False

    @property
    def tokens(self) -> int:
        return self.text + sum(rows * columns for rows, columns in (self.target, *self.references))
