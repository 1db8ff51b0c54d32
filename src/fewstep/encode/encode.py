"""Encodes cases into a conditioning store. Only what is missing is encoded, so it can be stopped and called again."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from fewstep.backbones.backbone import Backbone
from fewstep.data.cases import Case
from fewstep.data.pictures import file_digest, open_picture
from fewstep.encode.store import (
    ConditioningStore,
    StoreKey,
    tensor_bytes,
)
from fewstep.runtime.errors import (
    CaseError,
    EnvironmentRefused,
    LayoutError,
)
from fewstep.runtime.rank_slice import FULL_SLICE, RankSlice
from fewstep.runtime.reporter import SILENT, Reporter
from fewstep.runtime.task import Task

PROMPTS_A_CALL = 16  # ours
HEADROOM = 1.05  # ours: index and file headers


@dataclass
class EncodeCall:
    """One call of the backbone: prompts with the same reference pictures (none for t2i) and one size."""

    references: tuple[Path, ...]
    size: tuple[int, int]
    where: str
    prompts: dict[StoreKey, str] = field(default_factory=dict)

    @property
    def kind(self) -> tuple[int, tuple[int, int]]:
        """Number of references and size. Calls of one kind make conditionings of about the same size in bytes."""
        return len(self.references), self.size


@dataclass(frozen=True)
class EncodeResult:
    """What a call of `encode_cases` did. new: conditionings that were encoded. held: those that were already there."""

    new: int
    held: int
    seconds: float


def store_key(case: Case, prompt: str, store: ConditioningStore, size: tuple[int, int]) -> StoreKey:
    """The key of a prompt (the case's own, or a negative one) with the case's pictures, at the case's size."""
    return store.key(prompt, [file_digest(path) for path in case.references], case.size(size))


def needs_encoding(
    cases: Sequence[Case],
    store: ConditioningStore,
    *,
    size: tuple[int, int],
    negatives: Mapping[Task, Sequence[str]] | None = None,
    rank_slice: RankSlice = FULL_SLICE,
) -> bool:
    """Whether `encode_cases` would have anything to encode.

    Raises:
        CaseError: a picture that cannot be read.
    """
    return any(_left_of(call, store).prompts for call in rank_slice.of(_calls(cases, store, size, negatives or {})))


@torch.no_grad()
def encode_cases(
    backbone: Backbone,
    cases: Sequence[Case],
    store: ConditioningStore,
    *,
    size: tuple[int, int],
    negatives: Mapping[Task, Sequence[str]] | None = None,
    reporter: Reporter = SILENT,
    rank_slice: RankSlice = FULL_SLICE,
) -> EncodeResult:
    """Encodes the prompts of cases, the student's and the teachers', and the negative prompts of their task.

    A negative prompt is encoded once for t2i, and once for each set of pictures for edits.

    Several processes can share the work, and write into one store.

    Args:
        size: height and width in px of cases that state none.
        negatives: the negative prompts of each task.
        rank_slice: this process's part of the work.

    Raises:
        CaseError: a picture that cannot be read, or a size or number of pictures that the model does not accept.
        EnvironmentRefused: the disk cannot hold the rest. This is known after the first call of each kind.
    """
    begun_s = time.perf_counter()
    backbone.layout_grid(size)
    _refuse_too_many_references(backbone, cases)
    # The work is divided before what is already stored is left out. In the other order, what another process stores
    # meanwhile would change the parts of all processes.
    mine = rank_slice.of(_calls(cases, store, size, negatives or {}))
    asked = sum(len(call.prompts) for call in mine)
    calls = _first_kinds([left for call in mine if (left := _left_of(call, store)).prompts])
    held = asked - sum(len(call.prompts) for call in calls)
    kinds = {call.kind for call in calls}
    measured: dict[tuple[int, tuple[int, int]], float] = {}
    try:
        with reporter.progress("encoding", sum(len(call.prompts) for call in calls)) as advance:
            for number, call in enumerate(calls):
                measured.setdefault(call.kind, _encode(backbone, call, store) / len(call.prompts))
                if number + 1 == len(kinds):
                    _refuse_if_full(store, sum(measured[rest.kind] * len(rest.prompts) for rest in calls))
                advance(len(call.prompts))
    finally:
        store.flush()
    return EncodeResult(sum(len(call.prompts) for call in calls), held, time.perf_counter() - begun_s)


def _refuse_too_many_references(backbone: Backbone, cases: Sequence[Case]) -> None:
    for case in cases:
        try:
            backbone.refuse_references(len(case.references))
        except LayoutError as error:
            raise CaseError(f"{case.where}: {error}") from error


def _calls(
    cases: Sequence[Case], store: ConditioningStore, size: tuple[int, int], negatives: Mapping[Task, Sequence[str]]
) -> list[EncodeCall]:
    """All calls that the cases need with an empty store. A prompt with the same pictures is in them once."""
    calls: list[EncodeCall] = []
    seen: set[StoreKey] = set()
    filling: dict[tuple[tuple[Path, ...], tuple[int, int]], EncodeCall] = {}
    for case in cases:
        about = case.references, case.size(size)
        for prompt in (*case.prompts, *negatives.get(case.task, ())):
            key = store_key(case, prompt, store, size)
            if key in seen:
                continue
            seen.add(key)
            call = filling.get(about)
            if call is None or len(call.prompts) >= PROMPTS_A_CALL:
                call = filling[about] = EncodeCall(*about, case.where)
                calls.append(call)
            call.prompts[key] = prompt
    return calls


def _left_of(call: EncodeCall, store: ConditioningStore) -> EncodeCall:
    """The call without the prompts that are already in the store."""
    return replace(call, prompts={key: prompt for key, prompt in call.prompts.items() if not store.has(key)})


def _first_kinds(calls: Sequence[EncodeCall]) -> list[EncodeCall]:
    """The same calls, with one of each kind first: these show how much space the others need."""
    first = {id(call) for call in {call.kind: call for call in reversed(calls)}.values()}
    return sorted(calls, key=lambda call: id(call) not in first)


def _encode(backbone: Backbone, call: EncodeCall, store: ConditioningStore) -> int:
    """Encodes and stores the prompts of a call. Returns the bytes of its conditionings."""
    pictures = [open_picture(path, call.where) for path in call.references]
    try:
        conds = backbone.encode(list(call.prompts.values()), pictures or None, call.size)
    except LayoutError as error:
        raise CaseError(f"{call.where}: {error}") from error
    for key, cond in zip(call.prompts, conds, strict=True):
        store.add(key, cond)
    return sum(map(tensor_bytes, conds))


def _refuse_if_full(store: ConditioningStore, needed: float) -> None:
    free = shutil.disk_usage(store.folder).free
    if needed * HEADROOM > free:
        raise EnvironmentRefused(
            f"{store.folder}: the conditionings need about {needed * HEADROOM / 1e9:.1f} GB, and {free / 1e9:.1f} GB "
            "are free. Free space, name another folder as `store`, or take fewer cases"
        )
