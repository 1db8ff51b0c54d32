"""Several ranks do what one process does: gloo on the CPU, each rank a process of its own."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from fewstep.flow.rng import NamedRNG
from fewstep.objective.plan import ObjectivePlan
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.plan import (
    AdapterPlan,
    CriticPlan,
    StudentPlan,
    TeachersSpec,
)
from fewstep.runtime.errors import (
    EnvironmentRefused,
    RecipeError,
    RunError,
)
from fewstep.runtime.parallel import (
    SINGLE_RANK,
    Ranks,
    process_group,
)
from fewstep.train.build import build_dmd_step
from fewstep.train.monitor import merge_over_ranks
from fewstep.train.plan import RunPlan
from fewstep.train.settings import DMDSettings
from fewstep.train.trainer import Trainer
from tests.train.ranks import assert_alike, flat, on_ranks, rank_batch, relative_distance
from tests.train.runs import ending, examined, toy_trainer
from tests.train.tiny_model import batch as tiny_batch
from tests.train.tiny_model import tiny

SIZE = 4  # shared by 3 ranks: parts of 1, 1 and 2


def full(folder: Path, ranks: Ranks, iterations: int = 3, **run: Any) -> None:
    """Copies of a Gaussian world; examined, so that the best checkpoint has to be agreed on."""
    trainer = toy_trainer(
        folder,
        batch=lambda plain: lambda i: rank_batch(plain(i), ranks),
        ranks=ranks,
        iterations=iterations,
        save_every_iterations=1,
        best_by="size",
        sample_every_iterations=0,
        **run,
    )
    trainer.hooks = replace(trainer.hooks, examine=examined(trainer))
    trainer.train()


def adapters(folder: Path, ranks: Ranks, learning_rate: float = 1e-3) -> None:
    """Two adapters over one base of the real class, T2I and edits in turn.

    The adapters begin far from idle. Beside an idle one the critic is all but the teacher, and the student's gradient
    is the rounding of their difference.
    """
    plan = AdapterPlan(rank=2, alpha=2)
    student = StudentPlan(steps=2, adapter=plan, learning_rate=learning_rate)
    critic = CriticPlan(updates=2, adapter=plan, learning_rate=learning_rate)
    run = RunPlan(iterations=3, examine_every_iterations=0, sample_every_iterations=0)
    roles = build_roles(tiny(), RolesSpec(student, critic, TeachersSpec(), 3), NamedRNG(0))
    for network in (roles.student, roles.critic):
        for name, weight in network.named_parameters().items():
            weight.data.copy_(NamedRNG(7).normal(tuple(weight.shape), f"{network.name} {name}") / 5)
    begun = {
        network.name: {n: w.clone() for n, w in network.state().items()} for network in (roles.student, roles.critic)
    }
    batches = (lambda i: rank_batch(tiny_batch(i, SIZE), ranks)) if ranks.world > 1 else (lambda i: tiny_batch(i, SIZE))
    Trainer(
        folder,
        build_dmd_step(roles, DMDSettings(student, critic, ObjectivePlan()), NamedRNG(0), ranks),
        batches,
        run,
        ranks=ranks,
    ).train()
    weights = [weight for network in (roles.student, roles.critic) for weight in network.state().values()]
    ranks.agree("weights", sha256(b"".join(weight.numpy().tobytes() for weight in weights)).hexdigest())
    if ranks.first:
        torch.save(begun, folder / "begun.pt")


def held_still(folder: Path, ranks: Ranks) -> None:
    """Steps below the resolution of the weights: every update's gradient is taken at the same place."""
    adapters(folder, ranks, learning_rate=1e-12)


def resumed(folder: Path, ranks: Ranks) -> None:
    full(folder, ranks, iterations=5)


def disagreeing(folder: Path, ranks: Ranks) -> None:
    with pytest.raises(RunError, match="ranks 1 see other recipe than rank 0"):
        ranks.agree("recipe", "a" if ranks.rank != 1 else "b")


def test_three_ranks_that_share_unevenly_end_as_one_process(tmp_path: Path) -> None:
    full(tmp_path / "one", SINGLE_RANK)
    on_ranks(3, full, tmp_path / "three")
    assert_alike(tmp_path / "one", tmp_path / "three")


# The student's gradient carries critic minus teachers, here a thousandth of either: their rounding weighs more in it.
@pytest.mark.parametrize(("role", "bound"), [("critic", 2e-6), ("student", 3e-5)])
def test_gradients_of_adapters_summed_over_ranks_are_one_process_s(
    gradients: tuple[Path, Path], role: str, bound: float
) -> None:
    one, three = (ending(folder)[0][f"{role}_optimiser"] for folder in gradients)
    # Without momentum Adam's first moment is the last gradient; the second holds the squares of all of them.
    for moment in ("/exp_avg", "/exp_avg_sq"):
        assert relative_distance(flat(one, moment), flat(three, moment)) < bound


@pytest.fixture(scope="module")
def gradients(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("gradients")
    held_still(folder / "one", SINGLE_RANK)
    on_ranks(3, held_still, folder / "three")
    return folder / "one", folder / "three"


def test_adapters_over_three_ranks_go_where_one_process_takes_them(tmp_path: Path) -> None:
    adapters(tmp_path / "one", SINGLE_RANK)
    on_ranks(3, adapters, tmp_path / "three")
    (tensors, state), (its_tensors, its_state) = ending(tmp_path / "one"), ending(tmp_path / "three")
    assert state["categories"] == its_state["categories"]
    begun = torch.load(tmp_path / "one/begun.pt")
    for role in ("student", "critic"):
        start, end, its = flat(begun[role]), flat(tensors[role]), flat(its_tensors[role])
        # Adam's first steps are the gradient's sign times the step size, so a weight whose gradient is rounding noise
        # goes either way, by a whole step. That is few weights: all but one in a hundred end within 1e-6, and the
        # roads of all of them together differ by less than a thousandth of their length.
        assert ((end - its).abs() > 1e-6).double().mean() < 0.01
        assert relative_distance(end - start, its - start) < 1e-3


def test_a_run_goes_on_with_another_number_of_ranks(tmp_path: Path) -> None:
    full(tmp_path / "one", SINGLE_RANK, iterations=5)
    on_ranks(2, full, tmp_path / "many")
    on_ranks(4, resumed, tmp_path / "many")
    assert_alike(tmp_path / "one", tmp_path / "many")


def test_ranks_that_see_other_files_are_refused_together(tmp_path: Path) -> None:
    on_ranks(2, disagreeing, tmp_path)


def test_figures_are_weighted_by_samples_and_left_out_ones_counted() -> None:
    merged = merge_over_ranks(
        [(0.25, {"loss": 1.0, "left_out": 1.0, "pull/a": 3.0}), (0.75, {"loss": 2.0, "left_out": 2.0})]
    )
    assert merged == {"loss": 1.75, "left_out": 3.0, "pull/a": 3.0}
    assert merge_over_ranks([(0.5, {"loss": None}), (0.5, {"loss": 1.0})]) == {"loss": None}


def test_one_gpu_named_for_many_ranks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": 1, "WORLD_SIZE": 2, "LOCAL_RANK": 1, "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(RecipeError, match="make it cuda"), process_group("cuda:0"):
        pass


def test_a_launcher_that_sets_half_of_the_variables_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(EnvironmentRefused, match="use torchrun"), process_group("cpu"):
        pass
