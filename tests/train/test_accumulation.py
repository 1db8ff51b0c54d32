"""A batch run as several micro-batches, for one update: what that changes, and what it saves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.encode.batch import Batch
from fewstep.flow.rng import NamedRNG
from fewstep.objective.plan import ObjectivePlan
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.execution import Execution
from fewstep.roles.plan import (
    AdapterPlan,
    CriticPlan,
    StudentPlan,
    TeachersSpec,
)
from fewstep.roles.recomputation import Recomputation
from fewstep.roles.roles import Roles
from fewstep.run.budget.op_counter import (
    ACTIVATIONS,
    ROLLOUT,
    OpCounter,
)
from fewstep.run.preflight import preflight
from fewstep.run.recipe import load_recipe
from fewstep.runtime.errors import RecipeError, TrainingStopped
from fewstep.runtime.parallel import SINGLE_RANK, Ranks
from fewstep.runtime.reporter import SILENT
from fewstep.runtime.task import TASKS, Task
from fewstep.train.build import build_dmd_step
from fewstep.train.dmd_step import DMDStep
from fewstep.train.monitor import StepTimer, merge_metrics
from fewstep.train.settings import DMDSettings
from tests.train.ranks import assert_alike, flat, on_ranks, relative_distance
from tests.train.runs import lines, toy_trainer
from tests.train.test_ranks import full
from tests.train.tiny_model import batch as tiny_batch
from tests.train.tiny_model import tiny

SIZE = 4
EXTRA_LOSSES = {
    "matching": {},
    "all terms": {"first_step_anchor": {"teacher_steps": 2}, "segment_guidance": {}, "decoupled_guidance": True},
}
GUIDED = {task: {"scale": 2.5, "keep_norm": True} for task in ("t2i", "edit")}


# ---- batches


@pytest.mark.parametrize(("number", "lengths"), [(1, [5]), (2, [2, 3]), (3, [1, 2, 2]), (5, [1] * 5)])
def test_micro_batches_are_the_batch_in_order(number: int, lengths: list[int]) -> None:
    whole = tiny_batch(1, 5)
    parts = whole.micro_batches(number)
    assert [len(part.samples) for part in parts] == lengths
    for field in ("samples", "categories", "case_ids"):
        assert sum((getattr(part, field) for part in parts), ()) == getattr(whole, field)
    assert torch.equal(torch.cat([part.cond.text_BLC for part in parts]), whole.cond.text_BLC)
    assert torch.equal(
        torch.cat([part.negatives[""].references_BRD for part in parts]),  # type: ignore[misc]
        whole.negatives[""].references_BRD,  # type: ignore[arg-type]
    )
    assert sum(part.share for part in parts) == pytest.approx(whole.share)


def test_micro_batches_of_a_rank_s_share_are_shares_of_the_whole() -> None:
    rank = tiny_batch(0, 5).micro_batches(2)[1]
    assert [part.share for part in rank.micro_batches(2)] == pytest.approx([1 / 5, 2 / 5])


def test_more_micro_batches_than_samples_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"batch 4 cannot be accumulated in 8 parts; make .*_accumulation 4 or less"):
        load_recipe("pocket", ["run.batch=4", "run.gradient_accumulation=8"])
    with pytest.raises(RecipeError, match=r"cannot be accumulated in 3 parts"):
        tiny_batch(0, 2).micro_batches(3)


def test_a_run_goes_on_with_parts_of_its_tasks(tmp_path: Path) -> None:
    toy(tmp_path / "one", 1)
    toy(tmp_path / "other", 1, iterations=3)
    toy_trainer(
        tmp_path / "other",
        gradient_accumulation={"t2i": 2},
        critic={"warmup_iterations": 2},
        sample_every_iterations=0,
        examine_every_iterations=0,
    ).train()
    assert_alike(tmp_path / "one", tmp_path / "other")


def test_ranks_with_fewer_samples_than_micro_batches_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    recipe = load_recipe("pocket", ["run.batch=5", "run.gradient_accumulation=3"])
    refusal = r"batch 5 on 2 ranks, 2 on some of them, cannot .* in 3 parts; .*_accumulation 2 or less, or run.batch 6"
    with pytest.raises(RecipeError, match=refusal):
        preflight(recipe, 2, SILENT)
    assert not any(tmp_path.iterdir())


# ---- whole runs


def toy(folder: Path, parts: int, **given: Any) -> None:
    """Full copies of a Gaussian world, from a critic's warm-up on."""
    plans = {"critic": {"warmup_iterations": 2}, "sample_every_iterations": 0, "examine_every_iterations": 0}
    toy_trainer(folder, gradient_accumulation=parts, **(plans | given)).train()


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("extra_losses", EXTRA_LOSSES)
def test_a_run_in_micro_batches_ends_as_one_in_whole_batches(parts: int, extra_losses: str, tmp_path: Path) -> None:
    for number in (1, parts):
        toy(tmp_path / str(number), number, objective=EXTRA_LOSSES[extra_losses])
    assert_alike(tmp_path / "1", tmp_path / str(parts))


def test_a_run_goes_on_in_another_number_of_micro_batches(tmp_path: Path) -> None:
    toy(tmp_path / "one", 1)
    toy(tmp_path / "other", 1, iterations=3)
    toy(tmp_path / "other", 4)
    assert_alike(tmp_path / "one", tmp_path / "other")


def in_two_micro_batches(folder: Path, ranks: Ranks) -> None:
    full(folder, ranks, gradient_accumulation=2)


def test_two_ranks_in_two_micro_batches_each_end_as_one_process(tmp_path: Path) -> None:
    full(tmp_path / "one", SINGLE_RANK)
    on_ranks(2, in_two_micro_batches, tmp_path / "two")
    assert_alike(tmp_path / "one", tmp_path / "two")


def test_one_spoilt_micro_batch_skips_the_whole_update(tmp_path: Path) -> None:
    def spoilt(plain: Callable[[int], Batch]) -> Callable[[int], Batch]:
        def batch(i: int) -> Batch:
            given = plain(i)
            if i == 1:
                given.cond.text_BLC[-1] = torch.nan
            return given

        return batch

    with pytest.raises(TrainingStopped, match="3 updates were not finite"):
        toy(tmp_path, 4, batch=spoilt, max_skipped_updates=2, critic={})
    skipped = [(line["critic_skipped"], line["student_skipped"]) for line in lines(tmp_path)]
    assert skipped == [(0, 0), (2, 1)]


def test_figures_of_micro_batches_are_weighted_by_samples() -> None:
    merged = merge_metrics(
        [(0.1, {"loss": torch.tensor(1.0)}), (0.3, {"loss": torch.tensor(2.0), "left_out": torch.tensor(1)})]
    )
    assert {name: float(value) for name, value in merged.items()} == pytest.approx({"loss": 1.75, "left_out": 1})


# ---- gradients of the real transformer


def roles_of(mode: Any, **given: Any) -> tuple[Roles, StudentPlan, CriticPlan]:
    """Networks that begin far from idle: beside an idle critic the student's gradient is rounding (see test_ranks)."""
    adapter = AdapterPlan(rank=2, alpha=2)
    student = StudentPlan(steps=3, mode=mode, adapter=adapter, learning_rate=1e-12)
    critic = CriticPlan(updates=2, mode=mode, adapter=adapter, learning_rate=1e-12)
    stopped = given.pop("prefix_gradient", "full")
    student, critic = (plan.model_copy(update={"prefix_gradient": stopped}) for plan in (student, critic))
    spec = TeachersSpec.model_validate({"base": {"guidance": GUIDED}})
    roles = build_roles(tiny(), RolesSpec(student, critic, spec, 3), NamedRNG(0), Execution(**given))
    for network in (roles.student, roles.critic):
        for name, weight in network.named_parameters().items():
            if "lora" in name:
                weight.data.copy_(NamedRNG(7).normal(tuple(weight.shape), f"{network.name} {name}") / 5)
            else:
                weight.data.add_(0.02 * NamedRNG(7).normal(tuple(weight.shape), f"{network.name} {name}"))
    return roles, student, critic


def dmd_step_of(mode: Any, extra_losses: str, timer: Any, **given: Any) -> DMDStep:
    roles, student, critic = roles_of(mode, **given)
    objective, rng = ObjectivePlan.model_validate(EXTRA_LOSSES[extra_losses]), NamedRNG(0)
    return build_dmd_step(roles, DMDSettings(student, critic, objective), rng, timer=timer)


def gradients(parts: int, mode: Any, extra_losses: str = "matching", **given: Any) -> dict[str, Tensor]:
    """Of both roles, of the last updates with edits: without momentum Adam's first moment is the gradient."""
    dmd_step = dmd_step_of(mode, extra_losses, StepTimer(torch.device("cpu")), **given)
    dmd_step.iterate(0, 1, *tiny_batch(1, SIZE).micro_batches(parts))
    role_optimizers = {"student": dmd_step.optimizers.student, "critic": dmd_step.optimizers.critic}
    return {role: flat(role_optimizer.state(), "/exp_avg") for role, role_optimizer in role_optimizers.items()}


# The student's gradient carries critic minus teachers, whose rounding weighs more in it.
BOUNDS = {"critic": 2e-6, "student": 3e-5}
WAYS: list[tuple[str, str, Recomputation, str]] = [
    ("adapter", "matching", "off", "full"),
    ("adapter", "all terms", "selective", "stopped"),
    ("adapter", "all terms", "full", "full"),
    ("full", "matching", "full", "stopped"),
]


@pytest.mark.parametrize(("mode", "extra_losses", "how", "prefix"), WAYS)
@pytest.mark.parametrize("parts", [2, 3])
def test_gradients_are_those_of_the_whole_batch(
    parts: int, mode: str, extra_losses: str, how: Recomputation, prefix: str
) -> None:
    given = {"gradient_checkpointing": how, "prefix_gradient": prefix}
    whole, parted = (gradients(number, mode, extra_losses, **given) for number in (1, parts))
    for role, bound in BOUNDS.items():
        assert whole[role].norm() > 0
        assert relative_distance(whole[role], parted[role]) < bound, role


SETTINGS: list[tuple[dict[Task, Recomputation], dict[Task, int]]] = [
    ({"t2i": "off", "edit": "full"}, {"t2i": 1, "edit": 2}),
    ({"t2i": "selective", "edit": "off"}, {"t2i": 3, "edit": 1}),
]


@pytest.mark.parametrize(("recomputed", "parts"), SETTINGS)
@pytest.mark.parametrize("mode", ["adapter", "full"])
def test_tasks_in_turn_each_have_settings_of_their_own(
    mode: str, recomputed: dict[Task, Recomputation], parts: dict[Task, int]
) -> None:
    """Mid-run, over one base: a setting of one task never reaches into the other's iteration."""
    timer = StepTimer(torch.device("cpu"))
    plain = dmd_step_of(mode, "matching", timer)
    mixed = dmd_step_of(mode, "matching", timer, gradient_checkpointing=recomputed)
    turns: list[Task] = ["t2i", "edit", "edit", "t2i"]
    for i, task in enumerate(turns):
        batch = tiny_batch(i, SIZE, task)
        plain.iterate(i, 1, batch)
        mixed.iterate(i, 1, *batch.micro_batches(parts[task]))
        for role, bound in BOUNDS.items():
            one, other = (flat(getattr(step.optimizers, role).state(), "/exp_avg") for step in (plain, mixed))
            assert relative_distance(one, other) < bound, (i, task, role)


def test_a_task_without_recomputation_runs_its_blocks_once() -> None:
    """Forwards of the first block in an iteration, those of backward passes among them."""
    counts: dict[str, list[int]] = {}
    settings: dict[str, Any] = {"off": "off", "edits": {"edit": "full"}, "full": "full"}
    for name, how in settings.items():
        runs: list[int] = []
        step = dmd_step_of("adapter", "matching", StepTimer(torch.device("cpu")), gradient_checkpointing=how)
        block = step.roles.student.transformer.transformer_blocks[0]  # type: ignore[index, union-attr]
        block.register_forward_pre_hook(lambda *_, runs=runs: runs.append(1))  # type: ignore[misc, union-attr]
        counts[name] = []
        for i, task in enumerate(TASKS):
            runs.clear()
            step.iterate(i, 1, tiny_batch(i, SIZE, task))
            counts[name].append(len(runs))
    (t2i, edit), (recomputed_t2i, recomputed_edit) = counts["off"], counts["full"]
    assert t2i < recomputed_t2i
    assert edit < recomputed_edit
    assert counts["edits"] == [t2i, recomputed_edit]


def test_under_autocast_they_differ_by_its_rounding() -> None:
    whole, parted = (gradients(number, "adapter", precision="bf16") for number in (1, 2))
    for role in BOUNDS:
        assert relative_distance(whole[role], parted[role]) < 0.05, role


# ---- what is saved


def peaks(parts: int, samples: int, prefix: str) -> tuple[int, int]:
    """Bytes of activations, and of what rollouts left, each at its fullest moment of an edit's iteration."""
    op_counter = OpCounter()
    dmd_step, batch = dmd_step_of("adapter", "matching", op_counter, prefix_gradient=prefix), tiny_batch(1, samples)
    with op_counter:
        dmd_step.iterate(0, 1, *batch.micro_batches(parts))
    work, held = (max(phase.peak[purpose] for phase in op_counter.phases) for purpose in (ACTIVATIONS, ROLLOUT))
    return work, held


@pytest.mark.parametrize("prefix", ["full", "stopped"])
def test_activations_are_those_of_one_micro_batch(prefix: str) -> None:
    (whole, _), (parted, _), (single, _) = (
        peaks(parts, samples, prefix) for parts, samples in ((1, 4), (4, 4), (1, 1))
    )
    of_a_sample = (whole - single) / 3
    assert single > of_a_sample / 2
    assert parted - single < of_a_sample / 2  # gradients wait beside them


def test_prefixes_of_micro_batches_are_not_kept() -> None:
    (_, whole), (_, parted) = (peaks(parts, 4, "stopped") for parts in (1, 4))
    assert parted < 0.8 * whole


@pytest.mark.parametrize(("parts", "made"), [(1, 1), (2, 4)])
def test_a_constant_prefix_is_shared_by_a_whole_batch_alone(parts: int, made: int) -> None:
    """In micro-batches it is made for the rollout, let go, and made again for the student's update."""
    dmd_step, prefixes = (
        dmd_step_of("adapter", "matching", StepTimer(torch.device("cpu")), prefix_gradient="stopped"),
        [],
    )
    network = dmd_step.roles.student
    make = network.prefix
    network.prefix = lambda cond: prefixes.append(cond) or make(cond)  # type: ignore[method-assign, func-returns-value]
    dmd_step.iterate(0, 1, *tiny_batch(1, SIZE).micro_batches(parts))
    assert len(prefixes) == made
