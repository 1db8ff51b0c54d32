"""How many layouts a run's cases have, and which: what planning and the start of a run say of them. Without torch."""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import comb

from fewstep.data.cases import Case
from fewstep.data.composition import Composition
from fewstep.data.shared_batches import sharing_kinds
from fewstep.runtime.task import Task

SHOWN = 3  # of the shapes of a task, the most frequent first
WORDS: dict[Task, str] = {"t2i": "text to image", "edit": "edits"}


@dataclass(frozen=True)
class LayoutCounts:
    """The layouts of one task's cases.

    Args:
        cases: the number of cases of each layout.
        sizes: the same by the target's size alone, height and width in px.
        sharing: how many of the cases share batches with other layouts.
        parts: of a shared batch, in the mean: a batch is run in one part for each of its layouts.
    """

    task: Task
    cases: Counter[Hashable]
    sizes: Counter[tuple[int, int]]
    sharing: int
    parts: float

    def words(self) -> str | None:
        """What is worth saying; None where all cases have one layout."""
        if len(self.cases) == 1:
            return None
        total = sum(self.sizes.values())
        shown = [f"{h} x {w} ({count / total:.0%})" for (h, w), count in self.sizes.most_common(SHOWN)]
        more = f", and {len(self.sizes) - SHOWN:,} more" if len(self.sizes) > SHOWN else ""
        text = f"{WORDS[self.task]}: {total:,} cases of {len(self.cases):,} layouts, by size {', '.join(shown)}{more}"
        if self.sharing:
            text += (
                f"; {self.sharing:,} have too few of their layout for batches of its own, and share theirs, "
                f"each in about {self.parts:.2g} parts that are run one after another"
            )
        return text


def count_layouts(composition: Composition, task: Task, kind: Callable[[Case], Hashable], batch: int) -> LayoutCounts:
    """The layouts of one task's cases, each of which states its size. kind: determines a case's layout."""
    cases = [case for case in composition.cases() if case.task == task]
    counts = Counter(map(kind, cases))
    sharing = sharing_kinds(composition.streams[task], kind, batch)
    sizes = Counter(case.size((0, 0)) for case in cases)
    shared = [counts[one] for one in sharing]
    return LayoutCounts(task, counts, sizes, sum(shared), _mean_kinds(shared, batch))


def _mean_kinds(counts: Sequence[int], batch: int) -> float:
    """How many kinds are among `batch` cases, drawn by lot and each at most once, of so many of each kind:
    sum_k 1 - C(n - n_k, batch) / C(n, batch)."""
    total = sum(counts)
    batch = min(batch, total)
    return sum(1 - comb(total - count, batch) / comb(total, batch) for count in counts)
