"""Batches of several layouts: run in parts of one layout each, with the losses and gradients of the whole, on any
number of ranks, whole or sharded."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.data.batch_slice import batch_slice
from fewstep.data.case_sizes import CaseSizes
from fewstep.data.cases import Case
from fewstep.data.plan import SizesPlan
from fewstep.encode.batch import Batch, MixedBatch
from fewstep.encode.encode import encode_cases
from fewstep.encode.loader import Loader
from fewstep.encode.store import ConditioningStore
from fewstep.flow.rng import NamedRNG
from fewstep.objective.plan import ObjectivePlan
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.execution import Execution
from fewstep.roles.plan import AdapterPlan, CriticPlan, StudentPlan, TeachersSpec
from fewstep.roles.sharding import placement_for
from fewstep.runtime.errors import RecipeError
from fewstep.runtime.parallel import SINGLE_RANK, Ranks
from fewstep.runtime.rank_slice import FULL_SLICE, RankSlice
from fewstep.train.build import build_dmd_step
from fewstep.train.hooks import RunHooks
from fewstep.train.monitor import merge_metrics
from fewstep.train.plan import RunPlan
from fewstep.train.settings import DMDSettings
from fewstep.train.trainer import Trainer
from tests.encode.made_cases import composition_of
from tests.roles.test_sharding import move_from_base
from tests.train.ranks import flat, on_ranks, relative_distance
from tests.train.runs import assert_same_run, ending
from tests.train.tiny_model import batch as tiny_batch
from tests.train.tiny_model import tiny

SIZE = (64, 64)
PICTURES = [(32, 32), (64, 32), (32, 64), (96, 32)]  # width, height of the edits' references
SIZES = SizesPlan.model_validate({"t2i": [{"size": [64, 64]}, {"size": [32, 64]}, {"size": [64, 32], "weight": 2}]})
GUIDED = TeachersSpec.model_validate(
    {"base": {"guidance": {task: {"scale": 2.5, "negative": "grey"} for task in ("t2i", "edit")}}}
)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """Seven prompts and eight edits, of few layouts each."""
    folder = tmp_path_factory.mktemp("cases")
    prompts = [Case(f"p{n}", "t2i", f"a boat{' in the rain' * (n % 3)} {n}", "ab"[n % 2]) for n in range(7)]
    edits = []
    for n in range(8):
        path = folder / f"{n}.png"
        Image.new("RGB", PICTURES[n % len(PICTURES)], (30 * n, 99, 9)).save(path)
        edits.append(Case(f"e{n}", "edit", f"make it night {n}", "cd"[n % 2], (path,)))
    return [*prompts, *edits]


@pytest.fixture(scope="module")
def made(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> tuple[ConditioningStore, list[Case]]:
    backbone = QwenImage21.tiny()
    rule = CaseSizes(SIZES, SIZE, 0, QwenImage21)
    settled = rule.settled(composition_of(cases, 1, 1)).cases()
    store = ConditioningStore(tmp_path_factory.mktemp("store"), backbone.fingerprint())
    encode_cases(backbone, settled, store, size=SIZE, negatives={"t2i": ("grey",), "edit": ("grey",)})
    return store, settled


def loader(made: tuple[ConditioningStore, list[Case]], batch: int, rank_slice: RankSlice = FULL_SLICE) -> Loader:
    store, cases = made
    fresh = ConditioningStore(store.folder, store.fingerprint)
    negatives: Any = {"t2i": ("grey",), "edit": ("grey",)}
    composition = composition_of(cases, 1, 1)
    return Loader(fresh, composition, batch=batch, size=SIZE, seed=0, negatives=negatives, rank_slice=rank_slice)


def groups(batch: Batch | MixedBatch) -> tuple[Batch, ...]:
    return batch.groups if isinstance(batch, MixedBatch) else (batch,)


# ---- what the loader gives


def test_layouts_are_those_that_the_family_s_rule_gives(made: tuple[ConditioningStore, list[Case]]) -> None:
    batches, cases = loader(made, 4), made[1]
    sizes = {(case.height, case.width) for case in cases if case.task == "edit"}
    assert sizes == {(64, 64), (32, 64), (64, 32), (32, 96)}
    for case in cases:
        layout = batches.conditioning(case).layout
        assert layout.target == (case.height // 16, case.width // 16)  # type: ignore[operator]
        if case.task == "edit":
            assert layout.references == (layout.target,), "an edit lies on its reference's grid"


@pytest.mark.parametrize("batch", [2, 3, 6])
def test_a_batch_of_several_layouts_is_the_order_s_and_no_case_comes_twice(
    made: tuple[ConditioningStore, list[Case]], batch: int
) -> None:
    batches, seen = loader(made, batch), Counter[str]()
    mixed = 0
    for i in range(56):
        whole = batches.batch(i)
        mixed += isinstance(whole, MixedBatch)
        assert sorted(whole.case_ids) == sorted(case.id for case in batches.order.cases(i)[1])
        assert sorted(whole.samples) == list(range(batch * i, batch * i + batch))
        assert len({*whole.case_ids}) == batch or batch == 6, "six of seven prompts cannot be kept apart"
        assert whole.share == pytest.approx(1)
        assert len({len(group.cond.mask_BL[0]) for group in groups(whole)}) == 1, "one length of text"
        for group in groups(whole):
            assert all(cond.layout == group.cond.layout for cond in group.negatives.values())
        seen.update(whole.case_ids)
    assert mixed
    for task in "pe":
        counts = [count for name, count in seen.items() if name[0] == task]
        assert max(counts) - min(counts) <= 2, "by turns"


@pytest.mark.parametrize("world", [2, 3, 4])
def test_any_number_of_ranks_has_the_same_samples(made: tuple[ConditioningStore, list[Case]], world: int) -> None:
    one, ranks = loader(made, 7), [loader(made, 7, RankSlice(rank, world)) for rank in range(world)]
    for i in range(8):
        whole, parts = one.batch(i), [rank.batch(i) for rank in ranks]
        assert [n for part in parts for n in part.samples] == list(whole.samples)
        assert [n for part in parts for n in part.case_ids] == list(whole.case_ids)
        assert sum(part.share for part in parts) == pytest.approx(1)
        texts = {
            name: text
            for group in groups(whole)
            for name, text in zip(group.case_ids, group.cond.text_BLC, strict=True)
        }
        for group in (group for part in parts for group in groups(part)):
            for name, text in zip(group.case_ids, group.cond.text_BLC, strict=True):
                assert torch.equal(text, texts[name]), "also the padding"
        assert len({len(part.micro_batches(1)) for part in parts}) == 1, "equally many parts on every rank"


# ---- parts


def mixed(sizes: Sequence[Sequence[int]], rank: int) -> MixedBatch:
    """A rank's batch in groups of these sizes, of which nothing but the sizes is looked at."""
    total = sum(map(sum, sizes))
    made = [tiny_batch(n, size, "t2i") for n, size in enumerate(sizes[rank])]
    return MixedBatch(
        tuple(replace(group, share=len(group.samples) / total) for group in made), tuple(map(tuple, sizes))
    )


@pytest.mark.parametrize(
    ("sizes", "number", "expected"),
    [
        ([[3, 1]], 1, [[3, 1]]),
        ([[3, 1]], 2, [[1, 2, 1]]),
        ([[3, 1]], 4, [[1, 1, 1, 1]]),
        ([[4], [1, 1, 2]], 1, [[1, 1, 2], [1, 1, 2]]),
        ([[4], [3, 1]], 1, [[2, 2], [3, 1]]),
        ([[2], [1, 1, 1]], 1, [[1, 1, 0], [1, 1, 1]]),
        ([[1, 1], [3]], 1, [[1, 1], [1, 2]]),
    ],
)
def test_parts_are_equally_many_on_every_rank(sizes: list[list[int]], number: int, expected: list[list[int]]) -> None:
    for rank, lengths in enumerate(expected):
        whole = mixed(sizes, rank)
        parts = whole.micro_batches(number)
        assert [0 if part.share == 0 else len(part.samples) for part in parts] == lengths
        assert sum(part.share for part in parts) == pytest.approx(whole.share)
        told = [part for part in parts if part.share]
        assert sum((part.samples for part in told), ()) == whole.samples
        assert whole.categories == sum((part.categories for part in told), ())


def test_a_part_without_a_share_does_not_count_among_figures() -> None:
    figures = merge_metrics(
        [(0.5, {"loss": 2.0, "left_out": 1.0}), (0.0, {"loss": 9.0, "left_out": 5.0, "pull/a": 1.0})]
    )
    assert figures == {"loss": 2.0, "left_out": 1.0}


def test_fewer_samples_than_parts_are_refused() -> None:
    with pytest.raises(RecipeError, match="cannot be accumulated in 5 parts"):
        mixed([[3, 1]], 0).micro_batches(5)


# ---- training


def iterated(
    folder: Path,
    ranks: Ranks,
    *,
    made: tuple[ConditioningStore, list[Case]],
    mode: str = "adapter",
    sharding: str = "off",
    batch: int = 6,
    prefix: str = "full",
    parts: int = 1,
) -> None:
    """Two iterations, T2I and an edit, at weights held still: steps below their resolution."""
    shared = {"mode": mode, "adapter": AdapterPlan(rank=2, alpha=2), "learning_rate": 1e-12, "prefix_gradient": prefix}
    student, critic = StudentPlan(steps=2, **shared), CriticPlan(updates=2, **shared)
    backbone = tiny()
    if not ranks.first and sharding != "off":
        backbone = backbone.meta_copy()
    placement = placement_for(sharding, ranks, torch.device("cpu"), "fp32")
    roles = build_roles(
        backbone, RolesSpec(student, critic, GUIDED, 4), NamedRNG(0), Execution("fp32", "off", placement=placement)
    )
    move_from_base(roles)
    step = build_dmd_step(roles, DMDSettings(student, critic, ObjectivePlan()), NamedRNG(0), ranks)
    run = RunPlan(iterations=2, examine_every_iterations=0, sample_every_iterations=0, gradient_accumulation=parts)
    Trainer(folder, step, loader(made, batch, ranks.rank_slice).batch, run, ranks=ranks).train()


@pytest.mark.parametrize(
    ("ranks", "given"),
    [
        (3, {}),
        (3, {"mode": "full", "sharding": "full", "batch": 7}),
        (2, {"prefix": "stopped", "sharding": "full"}),
        (1, {"parts": 3}),
    ],
    ids=["adapters", "sharded unevenly", "stopped prefixes", "in parts of one"],
)
def test_gradients_are_one_process_s(
    made: tuple[ConditioningStore, list[Case]], tmp_path: Path, ranks: int, given: dict[str, Any]
) -> None:
    job = partial(iterated, made=made, **given)
    iterated(tmp_path / "one", SINGLE_RANK, made=made, **given | {"parts": 1})
    if ranks == 1:
        job(tmp_path / "many", SINGLE_RANK)
    else:
        on_ranks(ranks, job, tmp_path / "many")
    (one, state), (many, its_state) = ending(tmp_path / "one"), ending(tmp_path / "many")
    assert state["categories"] == its_state["categories"]
    for role, bound in (("critic", 2e-6), ("student", 3e-5)):  # test_ranks.py says why they differ
        for moment in ("/exp_avg", "/exp_avg_sq"):
            pair = flat(one[f"{role}_optimiser"], moment), flat(many[f"{role}_optimiser"], moment)
            assert relative_distance(*pair) < bound
    losses = [
        [json.loads(line)["student_loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "many")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_the_gradient_is_the_mean_of_those_of_its_samples(
    made: tuple[ConditioningStore, list[Case]], tmp_path: Path
) -> None:
    """Whatever their layouts: as from batches of one sample each, with the samples' own noise."""
    batches = loader(made, 6)
    number = next(i for i in range(9) if isinstance(batches.batch(i), MixedBatch))
    whole = batches.batch(number)
    assert isinstance(whole, MixedBatch)
    assert len(whole.groups) > 1
    found = []
    for parts in (whole.micro_batches(1), [p for g in whole.groups for p in g.micro_batches(len(g.samples))]):
        roles = build_roles(
            tiny(),
            RolesSpec(StudentPlan(steps=2, learning_rate=1e-12), CriticPlan(learning_rate=1e-12), GUIDED, 4),
            NamedRNG(0),
        )
        move_from_base(roles)
        step = build_dmd_step(
            roles,
            DMDSettings(StudentPlan(steps=2, learning_rate=1e-12), CriticPlan(learning_rate=1e-12), ObjectivePlan()),
            NamedRNG(0),
        )
        step.iterate(0, 1, *parts)
        found.append(flat(step.optimizers.critic.state(), "/exp_avg"))
    assert relative_distance(*found) < 2e-6


def test_rank_slices_cut_the_sorted_batch(made: tuple[ConditioningStore, list[Case]]) -> None:
    """Samples of one layout stand together, so ranks have as few layouts as can be."""
    whole = loader(made, 6).batch(1)
    layouts = [str(group.cond.layout) for group in groups(whole) for _ in group.samples]
    assert len({*layouts}) == len(groups(whole))
    for rank in range(2):
        part = loader(made, 6, RankSlice(rank, 2)).batch(1)
        held = [str(group.cond.layout) for group in groups(part) for _ in group.samples]
        assert held == layouts[batch_slice(6, rank, 2)]


def test_a_stopped_run_goes_on_as_the_unbroken_one(made: tuple[ConditioningStore, list[Case]], tmp_path: Path) -> None:
    """To the last bit, with a loader that has seen nothing before."""

    def train(folder: Path, stop_after: int | None) -> None:
        shared: dict[str, Any] = {"adapter": AdapterPlan(rank=2, alpha=2), "learning_rate": 1e-3}
        student, critic = StudentPlan(steps=2, **shared), CriticPlan(updates=1, **shared)
        roles = build_roles(tiny(), RolesSpec(student, critic, GUIDED, 4), NamedRNG(0))
        step = build_dmd_step(roles, DMDSettings(student, critic, ObjectivePlan()), NamedRNG(0))
        run = RunPlan(iterations=4, examine_every_iterations=0, sample_every_iterations=0)
        hooks = RunHooks(on_iteration=lambda i, line: "stop" if i + 1 == stop_after else None)
        Trainer(folder, step, loader(made, 5).batch, run, hooks).train()

    train(tmp_path / "unbroken", None)
    for stop_after in (1, 3, None):
        train(tmp_path / "stopped", stop_after)
    assert_same_run(tmp_path / "unbroken", tmp_path / "stopped")
