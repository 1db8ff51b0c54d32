"""Batches as pure functions of their number: one task, one layout, exact shares, the same on any number of ranks."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewstep.data.cases import Case
from fewstep.data.mixture import (
    Ratio,
    turn_at,
)
from fewstep.data.phases import constant
from fewstep.data.streams import by_category
from fewstep.encode.batch import Batch, MixedBatch
from fewstep.encode.encode import store_key
from fewstep.encode.loader import Loader
from fewstep.encode.store import ConditioningStore
from fewstep.runtime.errors import RecipeError, StoreError
from fewstep.runtime.rank_slice import RankSlice
from fewstep.runtime.task import Task
from tests.data.plain_order import unchanging
from tests.encode.made_cases import SIZE, composition_of, edit_cases, edit_conditioning, fill_store, latents, t2i_cases

World = tuple[ConditioningStore, list[Case]]
NEGATIVES: dict[Task, tuple[str, ...]] = {"t2i": ("",), "edit": ("", "blurry")}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """13 prompts in two categories; 9 edits, 3 of them with a wider picture."""
    folder = tmp_path_factory.mktemp("world")
    cases = t2i_cases(10, "a") + t2i_cases(3, "b") + edit_cases(folder, 9, wide=3)
    store = ConditioningStore(folder / "store", "print")
    fill_store(store, cases, NEGATIVES)
    return store, cases


def loader(made: World, ratio: tuple[int, int] = (5, 5), **options: int) -> Loader:
    store, cases = made
    settings = {"batch": 4, "seed": 0} | options
    return Loader(store, composition_of(cases, *ratio), size=SIZE, negatives=NEGATIVES, **settings)  # type: ignore[arg-type]


def groups(batch: Batch | MixedBatch) -> tuple[Batch, ...]:
    return batch.groups if isinstance(batch, MixedBatch) else (batch,)


def same(a: Batch | MixedBatch, b: Batch | MixedBatch) -> bool:
    return len(groups(a)) == len(groups(b)) and all(map(equal, groups(a), groups(b)))


def equal(a: Batch, b: Batch) -> bool:
    pairs = [(a.cond, b.cond), *((a.negatives[prompt], b.negatives[prompt]) for prompt in a.negatives)]
    return (a.task, a.samples, a.categories, a.case_ids) == (b.task, b.samples, b.categories, b.case_ids) and all(
        torch.equal(x.text_BLC, y.text_BLC) and torch.equal(x.mask_BL, y.mask_BL) and x.layout == y.layout
        for x, y in pairs
    )


def test_texts_that_are_as_long_as_their_layout_are_never_padded(tmp_path: Path) -> None:
    """A model that knows no mask has texts of one length for each layout: padding them would ask it for a mask."""
    cases = edit_cases(tmp_path, 4, wide=2)
    store = ConditioningStore(tmp_path / "store", "print")
    for n, case in enumerate(cases):
        wide = n < 2
        for m, prompt in enumerate((*case.prompts, *NEGATIVES["edit"])):
            cond = edit_conditioning(10 * n + m, latents(n, 16 if wide else 8), length=9 if wide else 5)
            store.add(store_key(case, prompt, store, SIZE), cond)
    prompts = t2i_cases(4)
    fill_store(store, prompts, NEGATIVES)
    batches = Loader(store, composition_of(prompts + cases, 0, 1), batch=2, size=SIZE, seed=0, negatives=NEGATIVES)
    held = [batches.batch(i) for i in range(8)]
    assert any(isinstance(batch, MixedBatch) for batch in held)
    for batch in (part for whole in held for part in groups(whole)):
        assert not batch.cond.padded
        assert not any(negative.padded for negative in batch.negatives.values())


def test_a_batch_has_one_task_one_layout_and_its_negatives(world: World) -> None:
    batches = loader(world)
    for i in range(12):
        whole = batches.batch(i)
        assert len(whole.samples) == len(whole.categories) == len(whole.case_ids) == 4
        assert isinstance(whole, Batch) or whole.task == "edit", "three wide pictures cannot fill batches of 4"
        for batch in groups(whole):
            assert batch.task == turn_at(i, constant(Ratio(5, 5)))[0] == batch.cond.layout.task
            assert set(batch.negatives) == set(NEGATIVES[batch.task])
            assert len(batch.cond) == len(batch.samples)
            for negative in batch.negatives.values():
                assert negative.layout == batch.cond.layout
                if batch.cond.references_BRD is not None and negative.references_BRD is not None:
                    assert torch.equal(negative.references_BRD, batch.cond.references_BRD)


@given(st.integers(0, 10**9), st.integers(0, 3))
def test_a_batch_follows_from_its_number(world: World, i: int, seed: int) -> None:
    used, fresh = loader(world, seed=seed), loader(world, seed=seed)
    used.batch(i + 1)
    assert same(used.batch(i), fresh.batch(i))


@given(st.integers(0, 500), st.sampled_from([1, 2, 4]))
def test_any_number_of_ranks_shares_the_same_batch(world: World, i: int, ranks: int) -> None:
    whole = loader(world).batch(i)
    parts = [loader(world, rank_slice=RankSlice(rank, ranks)).batch(i) for rank in range(ranks)]
    assert [n for part in parts for n in part.samples] == list(whole.samples)
    assert sorted(whole.samples) == list(range(4 * i, 4 * i + 4))
    assert [n for part in parts for n in part.case_ids] == list(whole.case_ids)
    held = [group for part in parts for group in groups(part)]
    every = torch.cat([group.cond.text_BLC for group in groups(whole)])
    assert torch.equal(torch.cat([group.cond.text_BLC for group in held]), every), "also the padding"
    for prompt in NEGATIVES[whole.task]:
        texts = torch.cat([group.negatives[prompt].text_BLC for group in groups(whole)])
        assert torch.equal(torch.cat([group.negatives[prompt].text_BLC for group in held]), texts)


def test_every_case_has_its_turn_once_an_epoch(world: World) -> None:
    batches = loader(world, ratio=(1, 0), batch=1)
    seen = Counter(batches.batch(i).case_ids[0] for i in range(26))
    assert set(seen.values()) == {2}
    assert len(seen) == 13


def test_layouts_take_turns_by_their_cases_share(world: World) -> None:
    batches = loader(world, ratio=(0, 1), batch=1)
    seen = [batches.batch(i) for i in range(18)]
    layouts = [group.cond.layout.references for batch in seen for group in groups(batch)]
    assert Counter(layouts) == {((2, 8),): 6, ((2, 4),): 12}
    assert set(Counter(batch.case_ids[0] for batch in seen).values()) == {2}


def test_categories_are_exact_by_sample(world: World) -> None:
    store, cases = world
    prompts = [case for case in cases if case.task == "t2i"]
    streams = by_category("t2i", [prompts], [1], {"a": 1, "b": 2})
    batches = Loader(store, unchanging(Ratio(1, 0), {"t2i": streams}), batch=4, size=SIZE, seed=0)
    assert Counter(name for i in range(3) for name in batches.batch(i).categories) == {"a": 4, "b": 8}


def test_the_text_is_that_of_the_case(world: World) -> None:
    store, cases = world
    by_id = {case.id: case for case in cases}
    batch = loader(world).batch(6)
    assert isinstance(batch, Batch)
    for row, name in enumerate(batch.case_ids):
        held = store.load(store.key(by_id[name].prompt, (), SIZE))
        length = int(batch.cond.mask_BL[row].sum())
        assert torch.equal(batch.cond.text_BLC[row, :length], held.text_BLC[0])


def test_the_hot_loop_reads_no_file_twice(world: World) -> None:
    batches = loader(world)
    for i in range(40):
        batches.batch(i)
    held = len(batches._cache)
    assert held == 13 + 1 + 9 * 3
    tight = loader(world, cache_bytes=300)
    assert same(tight.batch(3), batches.batch(3))
    assert len(tight._cache) < 5


def test_cases_that_are_not_encoded_are_counted_and_named(world: World) -> None:
    store, cases = world
    more = [*cases, Case("new", "t2i", "never seen", where="new.jsonl:7")]
    with pytest.raises(
        StoreError, match=r"1 conditionings are missing, the first for new\.jsonl:7; run fewstep encode"
    ):
        Loader(store, composition_of(more, 1, 1), batch=4, size=SIZE, seed=0)
    with pytest.raises(StoreError, match="22 conditionings are missing"):
        Loader(
            store, composition_of(cases, 1, 1), batch=4, size=SIZE, seed=0, negatives={"t2i": ("x",), "edit": ("x",)}
        )


def test_ranks_that_cannot_share_a_batch_are_refused(world: World) -> None:
    with pytest.raises(RecipeError, match=r"run\.batch 4 leaves some of the 5 ranks without a sample"):
        loader(world, rank_slice=RankSlice(0, 5))


def rewritten(folder: Path) -> list[Case]:
    first, *others = t2i_cases(8, "a")
    return [replace(first, teacher_prompt="a rewriting of the first prompt"), *others, *edit_cases(folder, 4)]


def test_a_batch_holds_what_the_teachers_read(tmp_path: Path) -> None:
    """Where some case of it has a prompt for them; a case without one has its own there."""
    cases = rewritten(tmp_path)
    store, by_id = ConditioningStore(tmp_path / "store", "print"), {case.id: case for case in cases}
    fill_store(store, cases, NEGATIVES)
    made, found = loader((store, cases)), 0
    for i in range(8):
        batch = made.batch(i)
        assert batch.read_by("student") is batch.cond
        assert (batch.teacher_cond is not None) == (cases[0].id in batch.case_ids)
        if batch.teacher_cond is not None:
            found += 1
            for row, case_id in enumerate(batch.case_ids):
                expected = made.conditioning(by_id[case_id], by_id[case_id].taught_prompt).text_BLC[0]
                assert torch.equal(batch.teacher_cond.text_BLC[row, : len(expected)], expected)
    assert found == 2, "once an epoch"


def test_teacher_prompts_belong_to_the_identity_of_the_cases(tmp_path: Path) -> None:
    cases = rewritten(tmp_path)
    store = ConditioningStore(tmp_path / "store", "print")
    fill_store(store, cases, NEGATIVES)
    plain = [replace(case, teacher_prompt=None) for case in cases]
    assert loader((store, cases)).identity() != loader((store, plain)).identity()
