"""The batches of a run. Batch i depends on i alone: its task, layouts, categories, cases, and their conditionings."""

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby, zip_longest

from fewstep.backbones.conditioning import (
    Conditioning,
    stack,
)
from fewstep.backbones.layout import Layout
from fewstep.data.batch_slice import batch_slice, refuse_few_samples
from fewstep.data.cases import Case
from fewstep.data.composition import Composition
from fewstep.data.order import BatchOrder
from fewstep.encode.batch import Batch, MixedBatch
from fewstep.encode.encode import store_key
from fewstep.encode.store import (
    ConditioningStore,
    StoreKey,
    tensor_bytes,
)
from fewstep.runtime.errors import StoreError
from fewstep.runtime.rank_slice import FULL_SLICE, RankSlice
from fewstep.runtime.task import Task

CACHE_BYTES = 2 * 2**30  # ours: a pocket store as a whole, at 7 B the latest thousand


class Loader:
    """The batches of a run.

    Args:
        composition: the task ratio, and the cases of each task.
        batch: samples in a batch, over all ranks.
        size: height and width in px of cases that state none.
        negatives: by task, the negative prompts whose unconditional branches are part of its batches.
        cache_bytes: how much of the store is kept in memory.

    Raises:
        StoreError: cases, or negative prompts about them, that the store lacks.
        RecipeError: a batch of fewer samples than ranks.
    """

    def __init__(
        self,
        store: ConditioningStore,
        composition: Composition,
        *,
        batch: int,
        size: tuple[int, int],
        seed: int,
        negatives: Mapping[Task, Sequence[str]] | None = None,
        rank_slice: RankSlice = FULL_SLICE,
        cache_bytes: int = CACHE_BYTES,
    ):
        self.store, self.batch_size, self.tasks = store, batch, composition.tasks
        self.rank, self.world = rank_slice.rank, rank_slice.world
        refuse_few_samples(batch, self.world)
        self.negatives = dict(negatives or {})
        self._cache: OrderedDict[StoreKey, Conditioning] = OrderedDict()
        self._cache_room = cache_bytes
        self._keys = {
            (case, prompt): store_key(case, prompt, store, size)
            for case in composition.cases()
            for prompt in (*case.prompts, *self.negatives.get(case.task, ()))
        }
        self._refuse_missing()
        self.order: BatchOrder[Layout] = BatchOrder(composition, self._layout, batch, seed)

    def batch(self, i: int) -> Batch | MixedBatch:
        """This rank's part of batch i. Samples of one layout stand together, so that ranks have few layouts each."""
        task, cases = self.order.cases(i)
        layouts = {layout: n for n, layout in enumerate(dict.fromkeys(map(self._layout, cases)))}
        places = sorted(range(len(cases)), key=lambda n: layouts[self._layout(cases[n])])
        by_rank = [places[batch_slice(len(cases), rank, self.world)] for rank in range(self.world)]
        groups = [[list(g) for _, g in groupby(own, lambda n: layouts[self._layout(cases[n])])] for own in by_rank]
        mine = tuple(self._of_one_layout(i, task, cases, places) for places in groups[self.rank])
        if len(layouts) == 1:
            return mine[0]
        return MixedBatch(mine, tuple(tuple(map(len, own)) for own in groups))

    def _of_one_layout(self, i: int, task: Task, cases: Sequence[Case], places: Sequence[int]) -> Batch:
        """The samples at these places of batch i."""
        mine, first = [cases[n] for n in places], i * self.batch_size
        alike = cases if self._is_padded(cases) else mine
        return Batch(
            index=i,
            task=task,
            cond=self._stacked(alike, mine, lambda case: case.prompt),
            negatives={n: self._stacked(alike, mine, lambda case, n=n: n) for n in self.negatives.get(task, ())},  # type: ignore[misc]
            samples=tuple(first + n for n in places),
            categories=tuple(case.category for case in mine),
            case_ids=tuple(case.id for case in mine),
            share=len(mine) / len(cases),
            teacher_cond=self._stacked(alike, mine, lambda case: case.taught_prompt)
            if any(case.teacher_prompt for case in cases)  # of the whole batch: all ranks decide alike
            else None,
        )

    def identity(self) -> str:
        """A hash of the cases and of their keys in the store. It must be the same on all ranks.

        Runs record it in cases.json, so the spelling of a key here must never change.
        """
        told = sorted(
            f"{case.id} {prompt} Key(text={key.text!r}, latents={key.latents!r})"
            for (case, prompt), key in self._keys.items()
        )
        return hashlib.blake2b("\n".join(told).encode(), digest_size=16).hexdigest()

    def counts(self) -> dict[str, int]:
        """The number of cases of each task."""
        return dict(Counter(case.task for case, prompt in self._keys if prompt == case.prompt))

    def first_cases(self, task: Task, count: int) -> list[Case]:
        """The first cases of a task, for previews. Every category comes once before any comes twice."""
        by_category: dict[str, list[Case]] = {}
        for case, prompt in self._keys:
            if case.task == task and prompt == case.prompt:
                by_category.setdefault(case.category, []).append(case)
        turns = zip_longest(*by_category.values())
        return [case for turn in turns for case in turn if case is not None][:count]

    def conditioning(self, case: Case, prompt: str | None = None) -> Conditioning:
        """The conditioning of one case under one of its prompts, or under a negative prompt of its task (batch of 1).
        None: the student's prompt."""
        return self._loaded(self._keys[case, case.prompt if prompt is None else prompt])

    def _layout(self, case: Case) -> Layout:
        return self.store.layout(self._keys[case, case.prompt])

    def _is_padded(self, cases: Sequence[Case]) -> bool:
        """Whether some layout of a batch has texts of several lengths. Texts of a model that knows no mask have one
        length for each layout, in all branches. They must not be padded to that of another layout."""
        lengths: dict[Layout, set[int]] = {}
        for case in cases:
            for prompt in (*case.prompts, *self.negatives.get(case.task, ())):
                key = self._keys[case, prompt]
                lengths.setdefault(self.store.layout(key), set()).add(self.store.length(key))
        return any(len(different) > 1 for different in lengths.values())

    def _stacked(self, alike: Sequence[Case], mine: Sequence[Case], prompt_of: Callable[[Case], str]) -> Conditioning:
        """`mine`, padded to the longest text of `alike`. Where texts differ in length, these are all cases of the
        batch, on any rank and of any layout.

        Sums over padded keys are rounded otherwise. If the padding depended on the number of ranks, so would the last
        bits of the results. And with sharded weights, ranks that run parts of different layouts must run equally many
        forwards, which follow from the lengths of both branches.
        """

        def key(case: Case) -> StoreKey:
            return self._keys[case, prompt_of(case)]

        return stack([self._loaded(key(case)) for case in mine], max(self.store.length(key(case)) for case in alike))

    def _loaded(self, key: StoreKey) -> Conditioning:
        if key not in self._cache:
            self._cache[key] = self.store.load(key)
            self._cache_room -= tensor_bytes(self._cache[key])
            while self._cache_room < 0 and len(self._cache) > 1:
                self._cache_room += tensor_bytes(self._cache.popitem(last=False)[1])
        self._cache.move_to_end(key)
        return self._cache[key]

    def _refuse_missing(self) -> None:
        missing = [case for (case, _), key in self._keys.items() if not self.store.has(key)]
        if missing:
            raise StoreError(
                f"{self.store.folder}: {len(missing)} conditionings are missing, the first for {missing[0].where}; "
                "run fewstep encode with this recipe"
            )
