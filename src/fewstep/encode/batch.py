"""The batch of one iteration: samples of one task with their conditioning, of one layout or in parts of one each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from fewstep.backbones.conditioning import Conditioning
from fewstep.data.batch_slice import batch_slice, refuse_few_samples
from fewstep.runtime.prompt_owner import PromptOwner
from fewstep.runtime.task import Task


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

    def to(self, device: torch.device) -> "Batch":
        """The same on another device."""
        negatives = {prompt: cond.to(device) for prompt, cond in self.negatives.items()}
        taught = None if self.teacher_cond is None else self.teacher_cond.to(device)
        return replace(self, cond=self.cond.to(device), negatives=negatives, teacher_cond=taught)

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


@dataclass(frozen=True)
class MixedBatch:
    """Samples of one task and several layouts, in groups of one layout each. A network runs one layout at a time, so
    the iteration runs the batch in parts. Its losses and gradients are those of the whole batch.

    Args:
        groups: this rank's samples.
        sizes: the sizes of the groups of every rank.
    """

    groups: tuple[Batch, ...]
    sizes: tuple[tuple[int, ...], ...]

    @property
    def task(self) -> Task:
        return self.groups[0].task

    @property
    def samples(self) -> tuple[int, ...]:
        return tuple(sample for group in self.groups for sample in group.samples)

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(category for group in self.groups for category in group.categories)

    @property
    def case_ids(self) -> tuple[str, ...]:
        return tuple(name for group in self.groups for name in group.case_ids)

    @property
    def share(self) -> float:
        return sum(group.share for group in self.groups)

    def to(self, device: torch.device) -> "MixedBatch":
        """The same on another device."""
        return replace(self, groups=tuple(group.to(device) for group in self.groups))

    def micro_batches(self, number: int) -> tuple[Batch, ...]:
        """Parts of one layout each, none larger than where a batch of one layout is cut into `number` parts.

        All ranks have equally many, since sharded weights are gathered by all of them at each forward. A rank with
        fewer layouts cuts its parts further. If it has no sample left for a part, it repeats one with a share of 0.

        Raises:
            RecipeError: fewer samples than parts.
        """
        refuse_few_samples(len(self.samples), 1, number)
        wanted = max(sum(_cuts(sizes, number)) for sizes in self.sizes)
        cuts = _cuts([len(group.samples) for group in self.groups], number)
        while sum(cuts) < min(wanted, len(self.samples)):
            most = max(range(len(cuts)), key=lambda n: len(self.groups[n].samples) / cuts[n])
            cuts[most] += 1
        parts = [part for group, cut in zip(self.groups, cuts, strict=True) for part in group.micro_batches(cut)]
        idle = replace(parts[-1].micro_batches(len(parts[-1].samples))[-1], share=0.0)
        return (*parts, *[idle] * (wanted - len(parts)))


def _cuts(sizes: Sequence[int], number: int) -> list[int]:
    """Into how many parts groups of these sizes are cut so that none is larger than all samples over `number`."""
    at_once = -(-sum(sizes) // number)
    return [-(-size // at_once) for size in sizes]
