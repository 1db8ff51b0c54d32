"""The loop: resuming to the last bit, ending well, and what is recorded."""

import json
import os
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fewstep.backbones.testing.toy import ToyBackbone
from fewstep.encode.batch import Batch
from fewstep.flow.rng import NamedRNG
from fewstep.objective.plan import ObjectivePlan
from fewstep.objective.rollout import Rollout
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.execution import Execution
from fewstep.roles.plan import (
    CriticPlan,
    StudentPlan,
    TeachersSpec,
)
from fewstep.runtime.errors import (
    RecipeError,
    RunError,
    TrainingStopped,
)
from fewstep.train.build import build_dmd_step
from fewstep.train.checkpoint import Position
from fewstep.train.draws import Draws
from fewstep.train.plan import RunPlan
from fewstep.train.retention import Best
from fewstep.train.settings import DMDSettings
from fewstep.train.student_rollout import RolloutState
from fewstep.train.trainer import Trainer
from tests.reporters import Recorded
from tests.train.runs import assert_same_run, ending, examined, killed_until_through, lines, toy_trainer
from tests.train.tiny_model import batch, tiny, toy_batches


class Interrupted(Exception):
    """A power cut, as far as the loop can tell."""


def stopping_at(number: int) -> Any:
    """Batches that end the process (as it were) when batch `number` is asked for."""

    def around(plain: Any) -> Any:
        def asked(i: int) -> Batch:
            if i == number:
                raise Interrupted
            return plain(i)

        return asked

    return around


@pytest.mark.parametrize("stop", [1, 2, 3, 5])
def test_a_resumed_run_is_the_unbroken_one_to_the_last_bit(tmp_path: Path, stop: int) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    toy_trainer(whole, student={"cooldown": 0.5}).train()
    with pytest.raises(Interrupted):
        toy_trainer(broken, student={"cooldown": 0.5}, batch=stopping_at(stop)).train()
    outcome = toy_trainer(broken, student={"cooldown": 0.5}).train()
    assert outcome.iterations == 6
    assert_same_run(whole, broken)


@pytest.mark.parametrize("stop", [0, 1, 2])
def test_a_warm_up_is_resumed_alike(tmp_path: Path, stop: int) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    rise = {"lr_warmup": 6}
    warm = {"critic": {"warmup_iterations": 4, **rise}, "student": rise, "save_every_iterations": 1}
    toy_trainer(whole, **warm).train()
    with pytest.raises(Interrupted):
        toy_trainer(broken, batch=stopping_at(stop), **warm).train()
    toy_trainer(broken, **warm).train()
    assert_same_run(whole, broken)
    phases = Counter(line["phase"] for line in lines(whole))
    assert phases == {"warm-up": 4, "distil": 6}
    assert "student_loss" not in lines(whole)[0]


@pytest.mark.parametrize(("mode", "critics"), [("adapter", "adapter"), ("full", "full"), ("adapter", "full")])
def test_the_real_transformer_resumes_to_the_last_bit(tmp_path: Path, mode: Any, critics: Any) -> None:
    def trainer(folder: Path, iterations: int) -> Trainer:
        student, critic = StudentPlan(mode=mode, steps=2, prefix_gradient="stopped"), CriticPlan(mode=critics)
        rng, run = NamedRNG(0), RunPlan(iterations=iterations, save_every_iterations=1)
        spec = TeachersSpec.model_validate({"base": {"guidance": {"t2i": {"scale": 2}}}})
        roles = build_roles(tiny(), RolesSpec(student, critic, spec, 3), rng, Execution(precision="bf16"))
        return Trainer(folder, build_dmd_step(roles, DMDSettings(student, critic, ObjectivePlan()), rng), batch, run)

    trainer(tmp_path / "whole", 2).train()
    trainer(tmp_path / "broken", 1).train()
    trainer(tmp_path / "broken", 2).train()
    assert_same_run(tmp_path / "whole", tmp_path / "broken")
    assert Counter(line["task"] for line in lines(tmp_path / "whole")) == {"t2i": 1, "edit": 1}


def test_a_run_killed_at_random_moments_is_the_unbroken_one(tmp_path: Path) -> None:
    whole, killed = toy_trainer(tmp_path / "whole"), tmp_path / "killed"
    whole.hooks = replace(whole.hooks, examine=examined(whole))
    begun_s = time.perf_counter()
    whole.train()
    assert killed_until_through(killed, seed=7, most=8, span_s=0.6 * (time.perf_counter() - begun_s)) > 3
    assert_same_run(tmp_path / "whole", killed)


def test_a_figure_to_be_best_by_needs_an_examiner(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="needs an examiner"):
        toy_trainer(tmp_path, best_by="letters").train()


def test_a_torn_checkpoint_costs_only_time(tmp_path: Path) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    toy_trainer(whole).train()
    toy_trainer(torn).train()
    (torn / "checkpoints" / "iteration-000006" / "student.safetensors").write_bytes(b"")
    toy_trainer(torn).train()
    assert_same_run(whole, torn)


def test_a_finished_run_has_nothing_to_do(tmp_path: Path) -> None:
    first = toy_trainer(tmp_path).train()
    before = lines(tmp_path)
    assert toy_trainer(tmp_path, batch=stopping_at(6)).train() == first
    assert lines(tmp_path) == before


def test_another_seed_or_network_is_refused(tmp_path: Path) -> None:
    toy_trainer(tmp_path).train()
    with pytest.raises(RunError, match="another seed"):
        toy_trainer(tmp_path, seed=1).train()
    (tmp_path / "checkpoints" / "iteration-000006").rename(tmp_path / "elsewhere")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_run_after_its_iteration(tmp_path: Path, name: str) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def signalled(plain: Any) -> Any:
        def asked(i: int) -> Batch:
            if i == 2:
                os.kill(os.getpid(), getattr(signal, name))
            return plain(i)

        return asked

    with pytest.raises(TrainingStopped, match=f"stopped by {name} and saved in .*iteration-000003.*goes on"):
        toy_trainer(tmp_path / "stopped", batch=signalled, save_every_iterations=100).train()
    assert before == {number: signal.getsignal(number) for number in before}
    assert ending(tmp_path / "stopped")[1]["iteration"] == 3
    toy_trainer(tmp_path / "stopped", save_every_iterations=100).train()
    toy_trainer(tmp_path / "whole", save_every_iterations=100).train()
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


# ---- updates that are not finite


def spoilt(*numbers: int) -> Any:
    """Batches of which some hold a value that is not finite."""

    def around(plain: Any) -> Any:
        def asked(i: int) -> Batch:
            whole = plain(i)
            if i not in numbers:
                return whole
            return replace(whole, cond=replace(whole.cond, text_BLC=whole.cond.text_BLC * torch.nan))

        return asked

    return around


def test_updates_that_are_not_finite_are_skipped_and_counted(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, batch=spoilt(2, 4), iterations=6)
    trainer.train()
    assert trainer.nonfinite.counts == {"student": 2, "critic": 4}
    skipped = [(line["student_skipped"], line["critic_skipped"]) for line in lines(tmp_path)]
    assert skipped == [(0, 0), (0, 0), (1, 2), (0, 0), (1, 2), (0, 0)]
    assert lines(tmp_path)[2]["student_loss"] is None
    for named in ending(tmp_path)[0].values():
        assert all(value.isfinite().all() for value in named.values())


def test_too_many_of_them_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingStopped, match=r"6 updates were not finite .2 of the student, 4 of the critic.*learning"
    ):
        toy_trainer(tmp_path, batch=spoilt(1, 4), max_skipped_updates=5).train()
    assert ending(tmp_path)[1]["iteration"] == 4


# ---- what is recorded, and who is asked


def test_every_iteration_has_its_line(tmp_path: Path) -> None:
    toy_trainer(tmp_path).train()
    found = lines(tmp_path)
    assert [line["iteration"] for line in found] == list(range(6))
    for i, line in enumerate(found):
        assert line["phase"] == "distil"
        assert line["tasks"] == {"t2i": 4 * (i + 1)}
        assert line["categories"] == {"t2i/landscape": 2 * (i + 1), "t2i/portrait": 2 * (i + 1)}
        assert line["teacher_forwards"] == {"base": 1}
        for name in ("student_loss", "critic_loss", "student_norm", "critic_norm", "gradient", "cosine", "gap"):
            assert isinstance(line[name], float)
    seconds = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])["seconds"]
    assert seconds.keys() == {"data", "rollout", "critic", "student", "teachers", "iteration"}


def test_who_looks_sees_the_averaged_student_when_due(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path)
    rendered, examined_at = [], []

    def seen(done: int) -> dict[str, float]:
        state = trainer.roles.student.state()
        assert all(torch.equal(value, trainer.step.optimizers.ema.mean[name]) for name, value in state.items())
        return {"x": float(done)}

    trainer.hooks = replace(
        trainer.hooks,
        render=lambda done: (rendered.append(done), seen(done)),
        examine=lambda done: (examined_at.append(done), seen(done))[1],
    )
    trainer.train()
    assert rendered == [0, 3, 6]
    assert examined_at == [0, 2, 4, 6]
    assert [(line["iteration"], line["x"]) for line in lines(tmp_path) if line["phase"] == "examine"] == [
        (0, 0), (2, 2), (4, 4), (6, 6),
    ]  # fmt: skip


def test_the_pace_of_a_run_is_that_of_its_iterations(tmp_path: Path) -> None:
    """The bar begins after the first look, which may take as long as many iterations; warm-up has a bar of its own."""
    trainer = toy_trainer(tmp_path, critic={"warmup_iterations": 2})
    trainer.reporter = told = Recorded()
    begun: list[tuple[int, set[str]]] = []
    trainer.hooks = replace(trainer.hooks, examine=lambda done: (begun.append((done, set(told.totals))), {"x": 0.0})[1])
    trainer.train()
    assert begun[0] == (0, {"warming up the critic"})
    assert begun[1] == (2, {"warming up the critic", "distilling"})
    assert told.totals == {"warming up the critic": 2, "distilling": 6}
    assert told.done == told.totals


@pytest.mark.parametrize(("best_is", "best"), [("highest", 2), ("lowest", 4)])
def test_the_best_checkpoint_outlives_newer_ones(tmp_path: Path, best_is: str, best: int) -> None:
    figures = {0: 99.0, 2: 0.9, 4: 0.1, 6: 0.5, 8: 0.5}
    hooks = {"examine": lambda done: {"letters": figures[done]}}
    run = {
        "iterations": 8,
        "save_every_iterations": 100,
        "keep_checkpoints": 1,
        "best_by": "letters",
        "best_is": best_is,
    }
    outcome = toy_trainer(tmp_path, hooks=hooks, **run).train()
    assert outcome.best == Best(best, figures[best])
    kept = {place.name for place in (tmp_path / "checkpoints").iterdir()}
    assert kept == {Position(best).name, Position(8).name}
    assert toy_trainer(tmp_path, hooks=hooks, **run).train().best == outcome.best


def test_a_figure_that_the_examiner_does_not_have_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"run\.best_by is 'lettres', but the examiner's figures are: letters"):
        toy_trainer(tmp_path, hooks={"examine": lambda done: {"letters": 1.0}}, best_by="lettres").train()
    assert lines(tmp_path)[-1]["iteration"] == 0


def test_a_stopped_prefix_needs_a_family_that_has_one(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="toy is none"):
        toy_trainer(tmp_path, student={"prefix_gradient": "stopped"}).train()


# ---- the exit step


def draws_of(rng: NamedRNG) -> Draws:
    return Draws(rng, ObjectivePlan(), ToyBackbone())


def test_every_task_improves_every_step_equally_often() -> None:
    rng = NamedRNG(0)
    for task in ("t2i", "edit"):
        steps = [draws_of(rng).exit_step(task, turn, 4) for turn in range(40)]
        for block in range(0, 40, 4):
            assert sorted(steps[block : block + 4]) == [0, 1, 2, 3]


def test_the_critic_learns_only_steps_that_matching_improves() -> None:
    """An anchor has the first one for itself."""
    for anchor, steps in ((None, {0, 1, 2, 3}), ({"teacher_steps": 2}, {1, 2, 3})):
        folder, objective = Path("nowhere"), {"first_step_anchor": anchor}
        method = toy_trainer(folder, student={"steps": 4}, objective=objective).step
        batch = toy_batches(method.roles.student.backbone, size=64, side=16)(0)
        states = tuple(torch.full((64, 1, 1), float(k)) for k in range(5))
        rollout = Rollout(method.settings.student.grid, states)
        at_step = {k: float(rollout.clean(k)[0]) for k in range(4)}
        state = RolloutState(batch, rollout)
        seen = {float(x) for x in method.student.x0(state, None, "critic exit", 0, 0).flatten()}
        assert seen == {at_step[k] for k in steps}


def test_no_period_of_the_data_meets_the_same_steps_only() -> None:
    """With iteration mod 4, tasks in turn would meet two steps each, and categories of period 4 one step each."""
    steps = [draws_of(NamedRNG(0)).exit_step("t2i", turn, 4) for turn in range(400)]
    for period in (2, 3, 4, 8):
        for phase in range(period):
            counts = Counter(steps[phase::period])
            assert min(counts.values()) > 0.5 * 400 / period / 4


def test_ranks_agree_on_the_step_and_share_no_noise(tmp_path: Path) -> None:
    """The step is made of seed, task and turn alone: ranks that disagreed would wait for each other for ever."""
    one, two = (toy_trainer(tmp_path / name) for name in ("one", "two"))
    mine = draws_of(NamedRNG(0)).exit_step("edit", 5, 4)
    assert [t.step.student.draws.exit_step("edit", 5, 4) for t in (one, two)] == [mine] * 2
    whole = one.batch(0)
    halves = [
        replace(whole, samples=whole.samples[part], cond=whole.cond.rows(part)) for part in (slice(0, 2), slice(2, 4))
    ]
    noise = torch.cat([two.step.student.draws.noise(half, "noise", 3) for half in halves])
    torch.testing.assert_close(noise, one.step.student.draws.noise(whole, "noise", 3), rtol=0, atol=0)
    assert len({tuple(row.flatten().tolist()) for row in noise}) == 4
