"""What one iteration is given: samples of one task and one layout, with their conditioning."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fewstep.backbones.conditioning import Conditioning
from fewstep.data.batch_slice import batch_slice, refuse_few_samples
from fewstep.runtime.task import Task


@dataclass(frozen=True)
class Batch:
    """One task, one layout.

    negatives: negative prompt -> the unconditional branch, about the same references. samples: global numbers, unique
    over the run, the same on any number of ranks. share: this rank's samples over those of the whole batch.
    """

    index: int
    task: Task
    cond: Conditioning
    negatives: Mapping[str, Conditioning]
    samples: tuple[int, ...]
    categories: tuple[str, ...]
    case_ids: tuple[str, ...]
    share: float = 1.0

    def micro_batches(self, number: int) -> tuple["Batch", ...]:
        """The batch in so many parts, by samples and in order. They differ by at most one sample.

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
        )
