"""Whole runs on a Gaussian world, what of them must be equal to the last bit, and runs that are killed."""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from fewstep.backbones.testing.toy import ToyBackbone
from fewstep.encode.batch import Batch
from fewstep.flow.rng import NamedRNG
from fewstep.objective.plan import ObjectivePlan
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.execution import Execution
from fewstep.roles.plan import (
    CriticPlan,
    StudentPlan,
    TeachersSpec,
)
from fewstep.roles.sharding import REPLICATED, Placement
from fewstep.runtime.parallel import SINGLE_RANK, Ranks
from fewstep.train.build import build_dmd_step
from fewstep.train.checkpoint import Checkpoints, load_checkpoint
from fewstep.train.hooks import RunHooks
from fewstep.train.plan import RunPlan
from fewstep.train.settings import DMDSettings
from fewstep.train.trainer import Trainer
from tests.processes import forked
from tests.train.tiny_model import toy_batches

CLOCK = ("seconds", "examination_seconds")


def toy_trainer(
    folder: Path,
    *,
    seed: int = 0,
    batch: Callable[[Callable[[int], Batch]], Callable[[int], Batch]] = lambda plain: plain,
    student: dict[str, Any] | None = None,
    critic: dict[str, Any] | None = None,
    objective: dict[str, Any] | None = None,
    hooks: dict[str, Any] | None = None,
    placement: Placement = REPLICATED,
    ranks: Ranks = SINGLE_RANK,
    **run: Any,
) -> Trainer:
    """A run of few iterations; what is not given is small."""
    plans = (
        StudentPlan(**{"mode": "full", "steps": 2, "learning_rate": 1e-2, "ema": 0.9, **(student or {})}),
        CriticPlan(**{"mode": "full", "learning_rate": 2e-2, "updates": 2, **(critic or {})}),
    )
    defaults = {
        "iterations": 6,
        "save_every_iterations": 2,
        "examine_every_iterations": 2,
        "sample_every_iterations": 3,
    }
    plan = RunPlan(**{**defaults, **run})
    backbone, rng = ToyBackbone(), NamedRNG(seed)
    roles = build_roles(
        backbone, RolesSpec(*plans, TeachersSpec(), plan.iterations), rng, Execution(placement=placement)
    )
    batches = batch(toy_batches(backbone, size=4, side=16))
    return Trainer(
        folder,
        build_dmd_step(roles, DMDSettings(*plans, ObjectivePlan(**objective or {})), rng, ranks),
        batches,
        plan,
        RunHooks(**hooks or {}),
        ranks,
    )


def whole_lines(folder: Path) -> int:
    """How many lines metrics.jsonl has by now. One that is still being written does not count."""
    file = folder / "metrics.jsonl"
    return file.read_text().count("\n") if file.exists() else 0


def lines(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without the clock's readings."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in record.items() if name not in CLOCK} for record in records]


def ending(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The last checkpoint."""
    place = Checkpoints(folder / "checkpoints", 1).latest()
    assert place is not None
    return load_checkpoint(place)


def assert_same_run(one: Path, other: Path) -> None:
    assert lines(one) == lines(other)
    (tensors, state), (its_tensors, its_state) = ending(one), ending(other)
    assert state == its_state
    assert tensors.keys() == its_tensors.keys()
    for stem, named in tensors.items():
        assert named.keys() == its_tensors[stem].keys()
        for name, value in named.items():
            assert torch.equal(value, its_tensors[stem][name]), (stem, name)


def examined(trainer: Trainer) -> Callable[[int], dict[str, float]]:
    """A figure of the student's weights as they are when it is asked."""
    return lambda done: {"size": float(sum(w.abs().sum() for w in _whole(trainer.roles.student.state())))}


def _whole(state: dict[str, Tensor]) -> list[Tensor]:
    return [value.full_tensor() if isinstance(value, DTensor) else value for value in state.values()]


def killed_until_through(folder: Path, seed: int, most: int, span_s: float) -> int:
    """Fork a run and kill it -9 at a random moment, up to `span_s`, again and again; the last goes through.
    Returns the number of kills."""
    clock, kills = random.Random(seed), 0
    while True:
        child = forked(lambda: _to_its_end(folder))
        if kills < most:
            time.sleep(clock.uniform(0.0, span_s))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            return kills
        kills += 1


def _to_its_end(folder: Path) -> None:
    trainer = toy_trainer(folder)
    trainer.hooks = replace(trainer.hooks, examine=examined(trainer))
    trainer.train()
