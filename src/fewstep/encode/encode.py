"""Encodes cases into a conditioning store. Only what is missing is encoded, so it can be stopped and called again."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.encode_request import EncodeRequest
from fewstep.data.cases import Case
from fewstep.data.pictures import file_digest, open_picture, upright_size
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

PROMPTS_A_CALL = 16  # ours: of those with the same pictures, or with none
EDITS_A_CALL = 32  # ours: where a family encodes edits together
PIXELS_A_CALL = 4 * 1024 * 1024  # ours: of their references; bounds the memory of text encoder and VAE
MOST_PIXELS = 1024 * 1024  # ours: what a reference is counted as at most, since families reduce larger ones
HEADROOM = 1.05  # ours: index and file headers


@dataclass
class EncodeCall:
    """Prompts with the same reference pictures (none for t2i) and one size."""

    references: tuple[Path, ...]
    size: tuple[int, int]
    where: str
    prompts: dict[StoreKey, str] = field(default_factory=dict)

    @property
    def kind(self) -> tuple[int, tuple[int, int]]:
        """Number of references and size. Calls of one kind make conditionings of about the same size in bytes."""
        return len(self.references), self.size

    @property
    def shapes(self) -> tuple[tuple[float, int], ...]:
        """Width over height of each reference, and its height in px. References of near shapes get equal grids."""
        sides = (upright_size(path, self.where) for path in self.references)
        return tuple((width / height, height) for height, width in sides)

    @property
    def pixels(self) -> int:
        """The area of its references as they are encoded, in px, as far as it is known without the family."""
        target = self.size[0] * self.size[1]
        sides = (upright_size(path, self.where) for path in self.references)
        return sum(max(target, min(height * width, MOST_PIXELS)) for height, width in sides)


@dataclass(frozen=True)
class EncodeResult:
    """What a call of `encode_cases` did. new: conditionings that were encoded. held: those that were already there.
    edits: sets of pictures among the new ones. together: the most of them in one call of the backbone."""

    new: int
    held: int
    seconds: float
    edits: int = 0
    together: int = 0


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
    calls = [left for call in mine if (left := _left_of(call, store)).prompts]
    new = _count(calls)
    batches = _first_kinds(_batches(calls, backbone.batches_edits))
    kinds = {call.kind for call in calls}
    measured: dict[tuple[int, tuple[int, int]], float] = {}
    try:
        with reporter.progress("encoding", new) as advance:
            for number, batch in enumerate(batches):
                measured.setdefault(batch[0].kind, _encode(backbone, batch, store) / _count(batch))
                if number + 1 == len(kinds):
                    _refuse_if_full(store, sum(measured[rest.kind] * len(rest.prompts) for rest in calls))
                advance(_count(batch), f"{len(batch)} edits at once" if len(batch) > 1 else "")
    finally:
        store.flush()
    edits = [sum(bool(call.references) for call in batch) for batch in batches]
    return EncodeResult(new, asked - new, time.perf_counter() - begun_s, sum(edits), max(edits, default=0))


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


def _count(calls: Sequence[EncodeCall]) -> int:
    """The number of conditionings that they make."""
    return sum(len(call.prompts) for call in calls)


def _batches(calls: Sequence[EncodeCall], together: bool) -> list[list[EncodeCall]]:
    """Calls that the backbone is asked at once: of edits with as many references, at one size, as many as memory
    allows, and those with references of near shapes beside each other. Prompts without references are in batches
    already.

    together: whether the backbone gains by it; otherwise each call stays alone.
    """
    batches = [[call] for call in calls if not (together and call.references)]
    edits = [call for call in calls if together and call.references]
    filling: list[EncodeCall] = []
    for call in sorted(edits, key=lambda call: (call.kind, call.shapes)):
        if filling and (filling[0].kind != call.kind or _is_full(filling, call)):
            batches.append(filling)
            filling = []
        filling.append(call)
    return [*batches, filling] if filling else batches


def _is_full(batch: Sequence[EncodeCall], further: EncodeCall) -> bool:
    """Whether the batch cannot take a further call."""
    return len(batch) >= EDITS_A_CALL or sum(call.pixels for call in (*batch, further)) > PIXELS_A_CALL


def _first_kinds(batches: Sequence[list[EncodeCall]]) -> list[list[EncodeCall]]:
    """The same batches, with one of each kind first: these show how much space the others need."""
    first = {id(batch) for batch in {batch[0].kind: batch for batch in reversed(batches)}.values()}
    return sorted(batches, key=lambda batch: id(batch) not in first)


def _encode(backbone: Backbone, batch: Sequence[EncodeCall], store: ConditioningStore) -> int:
    """Encodes and stores the prompts of a batch. Returns the bytes of its conditionings."""
    pictures = [tuple(open_picture(path, call.where) for path in call.references) for call in batch]
    requests = [
        EncodeRequest(tuple(call.prompts.values()), references, call.size)
        for call, references in zip(batch, pictures, strict=True)
    ]
    try:
        answers = backbone.encode_batch(requests)
    except LayoutError as error:
        if len(batch) > 1:  # one by one, the call at fault is named and those before it are kept
            return sum(_encode(backbone, [call], store) for call in batch)
        raise CaseError(f"{batch[0].where}: {error}") from error
    for call, conds in zip(batch, answers, strict=True):
        for key, cond in zip(call.prompts, conds, strict=True):
            store.add(key, cond)
    return sum(tensor_bytes(cond) for conds in answers for cond in conds)


def _refuse_if_full(store: ConditioningStore, needed: float) -> None:
    free = shutil.disk_usage(store.folder).free
    if needed * HEADROOM > free:
        raise EnvironmentRefused(
            f"{store.folder}: the conditionings need about {needed * HEADROOM / 1e9:.1f} GB, and {free / 1e9:.1f} GB "
            "are free. Free space, name another folder as `store`, or take fewer cases"
        )
