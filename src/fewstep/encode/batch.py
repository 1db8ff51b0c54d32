"""The batch of one iteration: samples of one task and one layout, with their conditioning."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from fewstep.backbones.conditioning import Conditioning
from fewstep.data.batch_slice import batch_slice, refuse_few_samples
from fewstep.runtime.task import Task

PromptOwner = Literal["student", "teacher"]


@dataclass(frozen=True)
class Batch:
    """Samples of one task and one layout.

    Args:
        index: the number of the batch in the run.
        negatives: the unconditional branch of each negative prompt, with the same references.
        samples: global numbers of the samples. They are unique in the run, and the same on any number of ranks.
        share: the number of samples here over the number in the whole batch, on all ranks.
        teacher_cond: the conditioning that the teachers read, where some case has a prompt of theirs. None: they read
            `cond`.
    """

    index: int
    task: Task
    cond: Conditioning
    negatives: Mapping[str, Conditioning]
    samples: tuple[int, ...]
    categories: tuple[str, ...]
    case_ids: tuple[str, ...]
    share: float = 1.0
    teacher_cond: Conditioning | None = None

    @property
    def taught(self) -> Conditioning:
        """What the teachers read."""
        return self.cond if self.teacher_cond is None else self.teacher_cond

    def read_by(self, whose: PromptOwner) -> Conditioning:
        """The conditioning under the student's prompts, or under the teachers'."""
        return self.taught if whose == "teacher" else self.cond

    def micro_batches(self, number: int) -> tuple["Batch", ...]:
        """The batch in `number` parts, in the order of samples. Their sizes differ by at most one sample.

        Raises:
            RecipeError: fewer samples than parts.
        """
        if number == 1:
            return (self,)
        refuse_few_samples(len(self.samples), 1, number)
        return tuple(self._rows(batch_slice(len(self.samples), n, number)) for n in range(number))

    def _rows(self, rows: slice) -> "Batch":
        samples = self.samples[rows]
        return replace(
            self,
            cond=self.cond.rows(rows),
            negatives={prompt: cond.rows(rows) for prompt, cond in self.negatives.items()},
            samples=samples,
            categories=self.categories[rows],
            case_ids=self.case_ids[rows],
            share=self.share * len(samples) / len(self.samples),
            teacher_cond=None if self.teacher_cond is None else self.teacher_cond.rows(rows),
        )
