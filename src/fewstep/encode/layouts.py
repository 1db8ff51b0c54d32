"""How many layouts a run's cases have, and which: what planning and the start of a run say of them. Without torch."""

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass

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
    """

    task: Task
    cases: Counter[Hashable]
    sizes: Counter[tuple[int, int]]
    sharing: int

    def words(self) -> str | None:
        """What is worth saying; None where all cases have one layout."""
        if len(self.cases) == 1:
            return None
        total = sum(self.sizes.values())
        shown = [f"{h} x {w} ({count / total:.0%})" for (h, w), count in self.sizes.most_common(SHOWN)]
        more = f", and {len(self.sizes) - SHOWN:,} more" if len(self.sizes) > SHOWN else ""
        text = f"{WORDS[self.task]}: {total:,} cases of {len(self.cases):,} layouts, by size {', '.join(shown)}{more}"
        if self.sharing:
            text += f"; {self.sharing:,} have too few of their layout for batches of its own, and share theirs in parts"
        return text


def count_layouts(composition: Composition, task: Task, kind: Callable[[Case], Hashable], batch: int) -> LayoutCounts:
    """The layouts of one task's cases, each of which states its size. kind: determines a case's layout."""
    cases = [case for case in composition.cases() if case.task == task]
    counts = Counter(map(kind, cases))
    sharing = sharing_kinds(composition.streams[task], kind, batch)
    sizes = Counter(case.size((0, 0)) for case in cases)
    return LayoutCounts(task, counts, sizes, sum(counts[one] for one in sharing))
