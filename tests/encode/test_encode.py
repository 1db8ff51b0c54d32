"""From cases to the store through the real pipeline classes, tiny: nothing twice, nothing lost."""

import shutil
from collections import namedtuple
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from fewstep.backbones.encode_request import EncodeRequest
from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.data.cases import Case
from fewstep.data.pictures import open_picture
from fewstep.encode import encode as encode_module
from fewstep.encode import store as store_module
from fewstep.encode.encode import encode_cases, store_key
from fewstep.encode.loader import Loader
from fewstep.encode.store import ConditioningStore
from fewstep.runtime.errors import (
    CaseError,
    EnvironmentRefused,
    LayoutError,
)
from fewstep.runtime.rank_slice import RankSlice
from fewstep.runtime.task import Task
from tests.encode.made_cases import SIZE, composition_of, edit_cases, t2i_cases
from tests.processes import child_process, wait_until
from tests.reporters import Recorded

NEGATIVES: dict[Task, tuple[str, ...]] = {"t2i": ("",), "edit": ("", "blurry")}


@pytest.fixture(scope="module")
def backbone() -> QwenImage21:
    return QwenImage21.tiny()


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    """20 prompts, and 4 edits, the first about a wider picture and two about the same one."""
    edits = edit_cases(tmp_path, 3, wide=1)
    return [*t2i_cases(20), *edits, Case("again", "edit", "otherwise", "e", edits[2].references, where="x.jsonl:9")]


@pytest.fixture
def store(tmp_path: Path) -> ConditioningStore:
    return ConditioningStore(tmp_path / "store", "print")


def counted(backbone: QwenImage21, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The prompts of each call of `encode_batch` from here on."""
    calls: list[list[str]] = []
    encode_stock = backbone.encode_batch

    def encode_batch(requests: Sequence[EncodeRequest]) -> Any:
        calls.append([prompt for request in requests for prompt in request.prompts])
        return encode_stock(requests)

    monkeypatch.setattr(backbone, "encode_batch", encode_batch)
    return calls


def test_the_store_holds_what_the_pipeline_encodes(
    backbone: QwenImage21, cases: list[Case], store: ConditioningStore
) -> None:
    encode_cases(backbone, cases, store, size=SIZE)
    again = ConditioningStore(store.folder, "print")
    for case in (cases[0], cases[20], cases[22]):
        pictures = [open_picture(path, "") for path in case.references]
        (fresh,) = backbone.encode([case.prompt], pictures or None, SIZE)
        held = again.load(store_key(case, case.prompt, again, SIZE))
        assert held.layout == fresh.layout
        torch.testing.assert_close(held.text_BLC.float(), fresh.text_BLC.float(), rtol=2**-7, atol=1e-2)
        if fresh.references_BRD is not None:
            torch.testing.assert_close(held.references_BRD, fresh.references_BRD)


def test_nothing_is_encoded_twice(
    backbone: QwenImage21, cases: list[Case], store: ConditioningStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = counted(backbone, monkeypatch)
    done = encode_cases(backbone, cases, store, size=SIZE, negatives=NEGATIVES)
    assert (done.new, done.held) == (20 + 1 + 4 + 3 * 2, 0)
    assert sorted(map(len, calls)) == [5, 3 + 3 + 4, 16], "prompts in batches; the prompts of all edits in one call"
    calls.clear()
    again = encode_cases(backbone, cases, store, size=SIZE, negatives=NEGATIVES)
    assert (again.new, again.held, calls) == (0, done.new, [])
    more = encode_cases(backbone, cases, store, size=SIZE, negatives={"edit": ("", "blurry", "grey")})
    assert (more.new, calls) == (3, [["grey"] * 3])
    assert (more.edits, more.together) == (3, 3)


def test_edits_encoded_together_are_stored_as_alone(
    backbone: QwenImage21, cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures of two layouts, texts of many lengths. Keys are the same; numbers differ by rounding alone."""
    stores = {}
    for together in (True, False):
        monkeypatch.setattr(backbone, "batches_edits", together)
        stores[together] = ConditioningStore(tmp_path / f"store {together}", "print")
        encode_cases(backbone, cases, stores[together], size=SIZE, negatives=NEGATIVES)
    for case in cases:
        for prompt in (case.prompt, *NEGATIVES[case.task]):
            key = store_key(case, prompt, stores[True], SIZE)
            ours, alone = (stores[together].load(key) for together in (True, False))
            assert ours.layout == alone.layout
            torch.testing.assert_close(ours.text_BLC.float(), alone.text_BLC.float(), rtol=2**-7, atol=1e-5)
            if alone.references_BRD is not None:
                torch.testing.assert_close(ours.references_BRD, alone.references_BRD, rtol=0, atol=1e-5)


def test_memory_bounds_how_many_edits_are_encoded_together(
    backbone: QwenImage21, store: ConditioningStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the area of their pictures, which is that of the target at least; by their number; and by one kind."""
    calls = counted(backbone, monkeypatch)
    monkeypatch.setattr(encode_module, "PIXELS_A_CALL", 3 * 64 * 64)
    encode_cases(backbone, edit_cases(tmp_path, 8, wide=1), store, size=SIZE)
    assert sorted(map(len, calls)) == [2, 3, 3], "the wide picture is twice as large"
    calls.clear()
    monkeypatch.setattr(encode_module, "PIXELS_A_CALL", 1)
    encode_cases(backbone, edit_cases(tmp_path, 2), store, size=(96, 96))
    assert sorted(map(len, calls)) == [1, 1], "a single edit is always encoded"
    calls.clear()
    monkeypatch.undo()
    calls = counted(backbone, monkeypatch)
    monkeypatch.setattr(encode_module, "EDITS_A_CALL", 2)
    first, second, third = edit_cases(tmp_path, 3)
    both = Case("both", "edit", "two pictures", "e", (*first.references, *second.references), where="x.jsonl:1")
    encode_cases(backbone, [first, both, second, third], store, size=(32, 64))
    assert sorted(calls) == [["edit 0", "edit 1"], ["edit 2"], ["two pictures"]]


def test_of_edits_encoded_together_the_one_at_fault_is_named(
    backbone: QwenImage21, store: ConditioningStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = backbone.encode_batch

    def encode_batch(requests: Sequence[EncodeRequest]) -> Any:
        if any("edit 2" in request.prompts for request in requests):
            raise LayoutError("too narrow")
        return stock(requests)

    monkeypatch.setattr(backbone, "encode_batch", encode_batch)
    cases = [replace(case, where=f"x.jsonl:{n}") for n, case in enumerate(edit_cases(tmp_path, 4))]
    with pytest.raises(CaseError, match=r"^x\.jsonl:2: too narrow$"):
        encode_cases(backbone, cases, store, size=SIZE)
    assert len(ConditioningStore(store.folder, "print")) == 2, "those before it are kept"


def test_latents_are_stored_once_for_each_picture_and_size(
    backbone: QwenImage21, cases: list[Case], store: ConditioningStore
) -> None:
    edits = cases[20:]
    for size in (SIZE, (64, 96), SIZE):
        encode_cases(backbone, edits, store, size=size, negatives=NEGATIVES)
    names: list[str] = []
    for shard in store.folder.glob("*.safetensors"):
        with safe_open(shard, "pt") as tensors:
            names += tensors.keys()
    latents = {store_key(case, "", store, size).latents for case in edits for size in (SIZE, (64, 96))}
    assert len(latents) == 3 * 2
    assert sum(name in latents for name in names) == len(latents)


def test_a_case_of_its_own_size_keeps_it(backbone: QwenImage21, store: ConditioningStore) -> None:
    case = Case("x", "t2i", "a boat", height=32, width=96)
    encode_cases(backbone, [case], store, size=SIZE)
    assert store.layout(store_key(case, case.prompt, store, SIZE)).target == (2, 6)


def test_ranks_share_the_work_and_the_folder(backbone: QwenImage21, cases: list[Case], tmp_path: Path) -> None:
    stores = [ConditioningStore(tmp_path / "store", "print") for _ in range(2)]
    parts = [encode_cases(backbone, cases, stores[r], size=SIZE, rank_slice=RankSlice(r, 2)).new for r in range(2)]
    assert all(parts)
    assert sum(parts) == len(ConditioningStore(tmp_path / "store", "print")) == 24


def test_a_rank_that_comes_late_still_has_its_own_share(
    backbone: QwenImage21, cases: list[Case], tmp_path: Path
) -> None:
    """It sees what the others have stored meanwhile; the union is whole all the same, and nothing is there twice."""
    done = []
    for rank in (2, 0, 1):
        store = ConditioningStore(tmp_path / "store", "print")
        done.append(encode_cases(backbone, cases, store, size=SIZE, rank_slice=RankSlice(rank, 3)))
    assert sum(one.new for one in done) == 24
    assert sum(one.held for one in done) == 0
    assert len(ConditioningStore(tmp_path / "store", "print")) == 24


def test_progress_counts_conditionings(backbone: QwenImage21, cases: list[Case], store: ConditioningStore) -> None:
    reporter = Recorded()
    encode_cases(backbone, cases, store, size=SIZE, reporter=reporter)
    assert reporter.totals == {"encoding": 24}
    assert reporter.done == {"encoding": 24}


def test_batches_go_straight_into_the_network(
    backbone: QwenImage21, cases: list[Case], store: ConditioningStore
) -> None:
    encode_cases(backbone, cases, store, size=SIZE, negatives=NEGATIVES)
    loader = Loader(store, composition_of(cases, 1, 1), batch=3, size=SIZE, seed=0, negatives=NEGATIVES)
    for i in range(2):
        for part in loader.batch(i).micro_batches(1):
            shape = (len(part.samples), *backbone.noise_shape(part.cond.layout))
            for cond in (part.cond, *part.negatives.values()):
                v_BND = backbone.velocity(backbone.transformer, torch.zeros(shape), torch.ones(len(cond)), cond)
                assert v_BND.shape == shape
                assert bool(v_BND.isfinite().all())


# ---- refusing


def test_a_disk_too_small_is_refused_before_the_work(
    backbone: QwenImage21, cases: list[Case], store: ConditioningStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = counted(backbone, monkeypatch)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 40_000))
    with pytest.raises(EnvironmentRefused, match=r"need about .* GB, and 0\.0 GB are free\. Free space"):
        encode_cases(backbone, cases, store, size=SIZE)
    assert len(calls) == 2, "one call of each kind: prompts, edits"


def test_cases_that_the_model_does_not_take_are_named(
    backbone: QwenImage21, cases: list[Case], store: ConditioningStore
) -> None:
    with pytest.raises(LayoutError, match="multiples of 32 px, not 65"):
        encode_cases(backbone, cases, store, size=(65, 64))
    odd = Case("x", "t2i", "a boat", height=48, width=64, where="x.jsonl:3")
    with pytest.raises(CaseError, match=r"x\.jsonl:3: .* multiples of 32 px, not 48"):
        encode_cases(backbone, [odd], store, size=SIZE)
    many = Case("x", "edit", "more", references=cases[20].references * 11, where="x.jsonl:4")
    with pytest.raises(CaseError, match=r"x\.jsonl:4: .* at most 10 references, not 11"):
        encode_cases(backbone, [many], store, size=SIZE)


def test_a_picture_torn_since_it_was_checked_is_named_and_the_rest_is_kept(
    backbone: QwenImage21, cases: list[Case], store: ConditioningStore, tmp_path: Path
) -> None:
    torn = tmp_path / "torn.jpg"
    Image.effect_noise((64, 64), 90).convert("RGB").save(torn)
    torn.write_bytes(torn.read_bytes()[:-300])  # its header is whole
    with pytest.raises(CaseError, match="is no readable picture"):
        encode_cases(backbone, [*cases, Case("torn", "edit", "as it was", "e", (torn,))], store, size=SIZE)
    assert len(ConditioningStore(store.folder, "print")) == 16, "the first prompts; then each kind has its first turn"


def test_a_killed_encoding_goes_on(backbone: QwenImage21, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL in the midst of writing: all that was flushed is right, and only the rest is encoded again."""
    monkeypatch.setattr(store_module, "SHARD_ENTRIES", 3)
    folder = tmp_path / "store"
    cases = [*t2i_cases(90), *edit_cases(tmp_path, 20)]
    with child_process(lambda: encode_cases(backbone, cases, ConditioningStore(folder, "print"), size=SIZE)):
        wait_until(lambda: len(list(folder.glob("shard-*"))) >= 5)
    store = ConditioningStore(folder, "print")
    held = [case for case in cases if store.has(store_key(case, case.prompt, store, SIZE))]
    assert 5 * 3 - 3 <= len(held) < len(cases)
    monkeypatch.undo()
    done = encode_cases(backbone, cases, store, size=SIZE)
    assert (done.new, done.held) == (len(cases) - len(held), len(held))
    for case in (held[0], held[-1]):
        pictures = [open_picture(path, "") for path in case.references]
        (fresh,) = backbone.encode([case.prompt], pictures or None, SIZE)
        kept = store.load(store_key(case, case.prompt, store, SIZE))
        torch.testing.assert_close(kept.text_BLC.float(), fresh.text_BLC.float(), rtol=2**-7, atol=1e-2)
