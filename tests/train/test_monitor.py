"""What a run measures of its teachers, how it responds, and that a resumed run responds the same."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewstep.flow import path
from fewstep.flow.rng import NamedRNG
from fewstep.objective.plan import ObjectivePlan
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.plan import (
    AdapterPlan,
    AdaptivePlan,
    CriticPlan,
    StudentPlan,
    TeachersSpec,
    WatchPlan,
)
from fewstep.roles.weight_control import TeacherWeightControl
from fewstep.runtime.errors import TrainingStopped
from fewstep.train.build import build_dmd_step
from fewstep.train.diagnostics import TeacherDiagnostics, latent_metrics
from fewstep.train.monitor import PullMonitor, pulls_of
from fewstep.train.plan import RunPlan
from fewstep.train.settings import DMDSettings
from fewstep.train.trainer import Trainer
from tests.roles.test_teachers import lora
from tests.train.runs import assert_same_run, ending, lines
from tests.train.tiny_model import batch, normal, tiny

SMALL = AdapterPlan(rank=2, alpha=2.0)


def trainer(folder: Path, iterations: int = 6, objective: dict[str, Any] | None = None, **teachers: Any) -> Trainer:
    """A LoRA teacher over the tiny real transformer, at two student steps."""
    adapter = folder.parent / "x.safetensors"
    if not adapter.exists():
        lora(adapter, "x")
    spec = TeachersSpec.model_validate(
        {"preset": "constant", "ramp": 0, "named": {"style": {"adapter": str(adapter)}}, **teachers}
    )
    student, critic = StudentPlan(steps=2, adapter=SMALL), CriticPlan(adapter=SMALL, updates=1)
    rng, run = NamedRNG(0), RunPlan(iterations=iterations, save_every_iterations=2)
    roles = build_roles(tiny(), RolesSpec(student, critic, spec, 6), rng)
    plan = ObjectivePlan.model_validate(objective or {})
    return Trainer(folder, build_dmd_step(roles, DMDSettings(student, critic, plan, spec.watch), rng), batch, run)


def events(folder: Path) -> list[dict[str, Any]]:
    return [line for line in lines(folder) if line["phase"] == "event"]


# ---- measuring


def test_each_iteration_records_cosine_ratio_and_pull_of_each_teacher(tmp_path: Path) -> None:
    trainer(tmp_path / "run", 2).train()
    for line in lines(tmp_path / "run"):
        assert line["pull/style"] == pytest.approx(0.5 * line["ratio/style"], rel=1e-5)  # lambda is 0.5 for all
        assert -1 <= line["cosine/style"] <= 1
        assert line["teacher_forwards"] == {"base": 1, "style": 1}
        assert line["trust"] == {"style": 1.0}
        assert "saturation" not in line


def test_without_the_base_there_is_nothing_to_measure_against_unless_declared(tmp_path: Path) -> None:
    trainer(tmp_path / "plain", 4, preset="specialised-alone").train()
    assert all("pull/style" not in line for line in lines(tmp_path / "plain"))
    trainer(tmp_path / "watched", 4, preset="specialised-alone", watch={"base_every": 2}).train()
    records = lines(tmp_path / "watched")
    assert ["pull/style" in line for line in records] == [True, False, False, True]
    assert [line["teacher_forwards"] for line in records[:2]] == [{"base": 1, "style": 1}, {"style": 1}]
    same = ("student_loss", "critic_loss")  # measuring changes nothing
    assert [[line[n] for n in same] for line in records] == [
        [line[n] for n in same] for line in lines(tmp_path / "plain")
    ]


@pytest.mark.parametrize("n", [1, 2, 3, 5, 20])
def test_the_base_is_asked_once_in_every_so_many_iterations_and_beside_each_task(n: int) -> None:
    """T2I and edits take turns, so an even period alone would meet one of them for ever."""
    watched = TeacherDiagnostics(WatchPlan(base_every=n))
    asked = [i for i in range(40 * n) if watched.include_base(i)]
    assert [i // n for i in asked] == list(range(40))
    assert {i % 2 for i in asked} == {0, 1}


def test_latents_on_request(tmp_path: Path) -> None:
    trainer(tmp_path / "run", 1, watch={"latents": True}).train()
    assert {"saturation", "saturation_teachers", "latent_mean", "latent_spread"} <= set(lines(tmp_path / "run")[0])


def test_latent_figures_where_they_are_known() -> None:
    x0, eps, t = normal(4, 64, 8), normal(4, 64, 8, name="eps"), torch.full((4,), 0.5)
    z, v = path.noised(x0, eps, t), path.velocity(x0, eps)
    figures = latent_metrics(x0, z, t, v, v)
    assert (float(figures["latent_mean"]), float(figures["latent_spread"])) == pytest.approx((0, 1), abs=1e-6)
    assert float(figures["saturation_teachers"]) == pytest.approx(float((x0.abs() > 3).float().mean()), abs=1e-3)
    figures = latent_metrics(2 * x0 + 0.5, z, t, v, (z - (2 * x0 + 0.5)) / 0.5)
    assert float(figures["latent_spread"]) == pytest.approx(2, rel=1e-4)
    assert float(figures["latent_mean"]) == pytest.approx(0.5 + float(x0.mean() / x0.std()), abs=0.05)
    assert figures["saturation"] > 10 * figures["saturation_teachers"]


# ---- the response to a pull


def test_an_event_comes_after_so_many_in_a_row() -> None:
    pulls = PullMonitor(WatchPlan(bound=2.0, patience=3))
    events_after = [pulls.add({"a": a, "b": 1.0}) for a in (3, 3, 1, 3, 3, 3, 3)]
    assert events_after == [[], [], [], [], [], ["a"], []]


def test_pulls_that_are_not_finite_are_left_out() -> None:
    assert pulls_of({"pull/a": 2.0, "pull/b": None, "ratio/a": 9.0, "student_loss": 1.0}) == {"a": 2.0}


def test_warn_halve_and_stop(tmp_path: Path) -> None:
    always = {"bound": 1e-6, "patience": 2}
    trainer(tmp_path / "warn", watch=always).train()
    found = events(tmp_path / "warn")
    assert [event["iteration"] for event in found] == [1, 3, 5]
    assert found[0].keys() == {
        *("phase", "iteration", "teacher", "task", "student_step", "pull", "ratio", "cosine"),
        *("bound", "answer", "trust"),
    }
    trainer(tmp_path / "halve", watch={**always, "answer": "halve"}).train()
    assert [event["trust"] for event in events(tmp_path / "halve")] == [0.5, 0.25, 0.125]
    pulls = {name: [x["pull/style"] for x in lines(tmp_path / name) if "pull/style" in x] for name in ("warn", "halve")}
    assert pulls["halve"][:2] == pulls["warn"][:2]
    assert pulls["halve"][2] == pytest.approx(pulls["warn"][2] / 2, rel=1e-3)  # at once

    with pytest.raises(TrainingStopped, match=r"iteration 1: teacher style pulls .* Saved in .*iteration-000002"):
        trainer(tmp_path / "stop", watch={**always, "answer": "stop"}).train()
    assert ending(tmp_path / "stop")[1]["iteration"] == 2
    assert len(events(tmp_path / "stop")) == 1


def test_an_iteration_that_stops_a_run_is_looked_at_like_any_other(tmp_path: Path) -> None:
    looked: list[int] = []

    def looking() -> Trainer:
        one = trainer(tmp_path / "stop", watch={"bound": 1e-6, "patience": 2, "answer": "stop"})
        one.run = one.run.model_copy(update={"examine_every_iterations": 2})
        one.hooks = replace(one.hooks, examine=lambda done: looked.append(done) or {"score": 1.0})  # type: ignore[func-returns-value]
        return one

    for _ in range(3):
        with pytest.raises(TrainingStopped):
            looking().train()
    looking().train()
    assert looked == [0, 2, 4, 6]


@pytest.mark.parametrize("preset", ["constant", "adaptive"])
@pytest.mark.parametrize("answer", ["warn", "halve", "stop"])
def test_an_anchor_is_watched_and_has_no_weight_to_halve(tmp_path: Path, preset: str, answer: str) -> None:
    shop = tmp_path / "shop.safetensors"
    lora(shop, "shop")
    named = {"shop": {"adapter": str(shop), "tasks": ["edit"], "anchor": True}}
    style = {"style": {"adapter": str(tmp_path / "x.safetensors"), "tasks": ["t2i"]}}
    watch = {"bound": 1e-6, "patience": 1, "answer": answer, "base_every": 1}
    run = trainer(tmp_path / "run", preset=preset, named=named | style, watch=watch)
    if answer == "stop":
        with pytest.raises(TrainingStopped):
            run.train()
    else:
        run.train()
        found = [event for event in events(tmp_path / "run") if event["teacher"] == "shop"]
        assert [(event["answer"], event["trust"]) for event in found] == [("warn", None)] * 3
        assert run.roles.teachers.trust.shares.keys() == {"style"}


@pytest.mark.parametrize(("before", "after"), [("adaptive", "constant"), ("constant", "adaptive")])
def test_trust_of_another_rule_begins_anew(tmp_path: Path, before: str, after: str) -> None:
    """A fork may change the preset: shares that were adapted would be a silent weight for ever, and full shares would
    be no trust region."""
    trainer(tmp_path / "run", 2, preset=before).train()
    trainer(tmp_path / "run", 3, preset=after).train()
    first = next(line for line in lines(tmp_path / "run") if line["phase"] == "distil" and line["iteration"] == 2)
    assert first["trust"]["style"] == (1.0 if after == "constant" else AdaptivePlan().start)


@pytest.mark.parametrize(
    "teachers",
    [
        {"watch": {"bound": 1e-6, "patience": 2, "answer": "halve"}},
        {"watch": {"bound": 1e-6, "patience": 3}},
        {"preset": "adaptive", "adaptive": {"bound": 0.5, "raise_by": 1.3}},
    ],
    ids=["halve", "warn", "adaptive"],
)
@pytest.mark.parametrize("stop", [1, 4])
def test_a_resumed_run_trusts_as_the_unbroken_one(tmp_path: Path, teachers: dict[str, Any], stop: int) -> None:
    trainer(tmp_path / "whole", **teachers).train()
    trainer(tmp_path / "broken", stop, **teachers).train()
    trainer(tmp_path / "broken", **teachers).train()
    assert_same_run(tmp_path / "whole", tmp_path / "broken")
    trusts = [line["trust"]["style"] for line in lines(tmp_path / "whole") if line["phase"] == "distil"]
    if "preset" in teachers or teachers["watch"].get("answer") == "halve":
        assert len(set(trusts)) > 1


def test_teachers_that_only_a_fork_names_begin_as_in_a_new_run() -> None:
    """The same run folder cannot name other ones: its recipe is held to the first start's."""
    trust = TeacherWeightControl(["a", "b"], AdaptivePlan())
    trust.load({"b": 0.7, "dropped": 0.3})
    assert trust.shares == {"a": AdaptivePlan().start, "b": 0.7}


@given(st.lists(st.floats(0, 100), max_size=200))
def test_adaptive_trust_stays_between_its_floor_and_all(pulls: list[float]) -> None:
    trust = TeacherWeightControl(["a"], AdaptivePlan())
    for pull in pulls:
        before = trust.shares["a"]
        trust.adapt("a", pull)
        after = trust.shares["a"]
        assert 0.05 <= after <= 1
        assert after >= before if pull <= 1.5 else after <= before


def test_it_settles_where_a_sixth_of_the_measurements_pass_the_bound() -> None:
    """Log-normal pulls in proportion to trust: the share that passes is the rule's, whatever the spread."""
    trust, noise = (
        TeacherWeightControl(["a"], AdaptivePlan(least=0.01, start=0.1)),
        NamedRNG(0).normal((40_000,), "pull").exp().tolist(),
    )
    passed = 0
    for n, factor in enumerate(noise):
        pull = 5 * trust.shares["a"] * factor
        passed += n >= 5_000 and pull > 1.5
        trust.adapt("a", pull)
    predicted = math.log(1.02) / (math.log(1.02) - math.log(0.9))
    assert passed / 35_000 == pytest.approx(predicted, abs=0.01)
    assert predicted == pytest.approx(1 / 6, abs=0.01)


# ---- extra losses


EXTRA_LOSSES = {"first_step_anchor": {}, "segment_guidance": {"teacher_steps": 2}, "decoupled_guidance": True}
EXTRA_LOSSES |= {"preservation": 1.0}


@pytest.mark.parametrize("name", EXTRA_LOSSES)
def test_each_extra_loss_runs_on_the_real_transformer_and_resumes_alike(tmp_path: Path, name: str) -> None:
    objective, guidance = {name: EXTRA_LOSSES[name]}, {"t2i": {"scale": 2.0}, "edit": {"scale": 2.0}}
    base = {"base": {"guidance": guidance}}
    trainer(tmp_path / "whole", 3, objective, **base).train()
    trainer(tmp_path / "broken", 2, objective, **base).train()
    trainer(tmp_path / "broken", 3, objective, **base).train()
    assert_same_run(tmp_path / "whole", tmp_path / "broken")
    last = lines(tmp_path / "whole")[-1]
    edits = [line for line in lines(tmp_path / "whole") if line["task"] == "edit"]
    assert {"anchor_loss", "segment_loss", "guidance_gradient"} & set(last) or "preservation_loss" in edits[-1]
    if name == "first_step_anchor":
        assert {line["student_step"] for line in lines(tmp_path / "whole")} == {1}
