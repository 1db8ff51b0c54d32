"""A fork goes on from another run's checkpoint under a changed recipe; what cannot carry over is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from fewstep.run.folder import RunDir
from fewstep.run.fork import (
    begin_fork,
    fork_origin,
    refuse_interrupted_fork,
)
from fewstep.run.recipe import Recipe, load_recipe
from fewstep.run.student import checkpoint_of
from fewstep.runtime.errors import EnvironmentRefused, RunError
from fewstep.train.checkpoint import Position
from fewstep.train.kept_students import KeptStudents
from tests.train.runs import assert_same_run, lines, toy_trainer

LONG: dict[str, Any] = {"iterations": 6, "save_every_iterations": 2}


def chosen(*overrides: str) -> Recipe:
    return load_recipe("pocket", ["run.iterations=6", *overrides])


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Four of six iterations of a toy run in the folder of a recipe."""
    with RunDir.open_or_create(tmp_path / "old", chosen()):
        toy_trainer(tmp_path / "old", **LONG | {"iterations": 4}).train()
    return tmp_path / "old"


def fork_messages(asked: str, recipe: Recipe, out: Path) -> list[str]:
    """The messages of a fork."""
    messages: list[str] = []
    start = fork_origin(asked, recipe, out)
    with RunDir.open_or_create(out, recipe) as run:
        if start is not None:
            begin_fork(run, start, messages.append)
    return messages


@pytest.mark.parametrize("which", ["", "@last", "@2"])
def test_a_fork_that_changes_nothing_is_the_unbroken_run(old: Path, tmp_path: Path, which: str) -> None:
    toy_trainer(tmp_path / "whole", **LONG).train()
    fork_messages(f"{old}{which}", chosen(), tmp_path / "new")
    toy_trainer(tmp_path / "new", **LONG).train()
    assert_same_run(tmp_path / "whole", tmp_path / "new")
    assert len(lines(old)) == 4, "the old run is as it was"


def test_where_it_came_from_and_what_was_changed_is_kept_and_printed(old: Path, tmp_path: Path) -> None:
    recipe = chosen("critic.updates=4", "run.device=cpu")
    (message,) = fork_messages(f"{old}@2", recipe, tmp_path / "new")
    assert "iteration-000002" in message
    assert "critic.updates: 2 -> 4" in message
    assert "device" not in message
    assert json.loads((tmp_path / "new" / "fork.json").read_text()) == {
        "run": str(old), "which": "2", "checkpoint": "iteration-000002", "iteration": 2,
        "changed": ["critic.updates: 2 -> 4"], "whole": True,
    }  # fmt: skip
    toy_trainer(tmp_path / "new", critic={"updates": 4}, **LONG).train()
    assert [line["iteration"] for line in lines(tmp_path / "new")] == list(range(6))
    assert lines(tmp_path / "new")[:2] == lines(old)[:2]


def test_the_best_come_along(tmp_path: Path) -> None:
    hooks = {"examine": lambda done: {"letters": -float(done)}}
    run = {"save_every_iterations": 1, "keep_checkpoints": 1, "best_by": "letters"}
    with RunDir.open_or_create(tmp_path / "old", chosen()):
        toy_trainer(tmp_path / "old", hooks=hooks, iterations=5, **run).train()
    fork_messages(str(tmp_path / "old"), chosen(), tmp_path / "new")
    assert toy_trainer(tmp_path / "new", hooks=hooks, iterations=6, **run).train().best is not None
    kept = {place.name for place in (tmp_path / "new" / "checkpoints").iterdir()}
    assert kept == {Position(2).name, Position(6).name}


def test_of_most_iterations_the_student_alone_is_kept_and_no_fork_begins_there(tmp_path: Path) -> None:
    old = tmp_path / "old"
    with RunDir.open_or_create(old, chosen()):
        toy_trainer(old, iterations=4, save_every_iterations=1, keep_checkpoints=1).train()
    refused = r"no whole checkpoint of iteration 2; it has: 4\. Of 2 the averaged student is kept, .*student\.init_from"
    with pytest.raises(RunError, match=refused):
        fork_origin(f"{old}@2", chosen(), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    fork_messages(f"{old}@4", chosen(), tmp_path / "new")
    taken, held = KeptStudents(tmp_path / "new"), KeptStudents(old)
    assert taken.iterations() == held.iterations() == [1, 2, 3, 4]
    assert all(torch.equal(taken.load(2)[name], value) for name, value in held.load(2).items())


def test_a_best_that_its_run_has_dropped_is_no_best_of_a_fork(tmp_path: Path) -> None:
    """Iteration 2 was the best when 3 was saved, and is gone since: nothing of the fork may point to it."""
    scores = {0: 0.0, 1: 1.0, 2: 9.0, 3: 2.0, 4: 10.0, 5: 11.0, 6: 3.0}
    hooks = {"examine": lambda done: {"letters": scores[done]}}
    run = {"save_every_iterations": 1, "keep_checkpoints": 2, "examine_every_iterations": 1, "best_by": "letters"}
    with RunDir.open_or_create(tmp_path / "old", chosen()):
        toy_trainer(tmp_path / "old", hooks=hooks, iterations=3, **run).train()
        shutil.rmtree(tmp_path / "old" / "checkpoints" / Position(2).name)
    fork_messages(f"{tmp_path / 'old'}@3", chosen(), tmp_path / "new")
    scores |= {4: 3.0, 5: 4.0, 6: 3.5}
    best = toy_trainer(tmp_path / "new", hooks=hooks, iterations=6, **run).train().best
    assert best is not None
    assert best.iteration == 5
    assert checkpoint_of(RunDir.open(tmp_path / "new"), "best").name == Position(5).name
    shutil.rmtree(tmp_path / "new" / "checkpoints" / Position(5).name)
    with pytest.raises(RunError, match=r"the best of .* cannot be used"):
        checkpoint_of(RunDir.open(tmp_path / "new"), "best")


def test_a_critic_does_not_warm_up_in_the_middle_of_a_run(old: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"has done 4 iterations, and the critic warms up before the first"):
        fork_origin(str(old), chosen("critic.warmup_iterations=3"), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_same_command_goes_on_without_the_old_run(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    assert len(fork_messages(str(old), chosen(), new)) == 1
    toy_trainer(new, **LONG | {"iterations": 5}).train()
    shutil.rmtree(old)
    assert fork_messages(str(old), chosen(), new) == []
    with pytest.raises(RunError, match=r"is a run already, and no fork of .*elsewhere"):
        fork_origin(str(tmp_path / "elsewhere"), chosen(), new)


@pytest.mark.parametrize("taken", [0, 1])
def test_an_interrupted_fork_is_begun_again_and_never_as_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    """The disk fills before the last of its checkpoints: neither the best alone nor nothing is what it goes on from."""
    hooks = {"examine": lambda done: {"letters": -float(done)}}
    run = {"save_every_iterations": 1, "keep_checkpoints": 1, "best_by": "letters"}
    old, new = tmp_path / "old", tmp_path / "new"
    with RunDir.open_or_create(old, chosen()):
        toy_trainer(old, hooks=hooks, iterations=5, **run).train()
    stock_copytree, left = shutil.copytree, [taken]

    def filling(*given: Any, **named: Any) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return stock_copytree(*given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copytree", filling)
        with pytest.raises(EnvironmentRefused, match="Free some space"):
            fork_messages(str(old), chosen(), new)
    with RunDir.open_or_create(new, chosen()) as begun:
        with pytest.raises(RunError, match=f"Give --fork {old}@last again"):
            refuse_interrupted_fork(begun)
    assert len(fork_messages(str(old), chosen(), new)) == 1
    assert {place.name for place in (new / "checkpoints").iterdir()} == {Position(2).name, Position(5).name}
    with RunDir.open_or_create(new, chosen()) as begun:
        refuse_interrupted_fork(begun)


@pytest.mark.parametrize(
    "change",
    [
        "model=elsewhere",
        "run.seed=1",
        "student.mode=full",
        "critic.mode=full",
        "student.adapter.rank=64",
        "critic.adapter.alpha=1",
        "student.init_from=l.safetensors",
    ],
)
def test_what_tensors_cannot_follow_is_refused_with_another_way(old: Path, tmp_path: Path, change: str) -> None:
    with pytest.raises(RunError, match=r"cannot follow[\s\S]*student\.init_from: LORA") as refused:
        fork_origin(str(old), chosen(change, "critic.updates=4"), tmp_path / "new")
    assert f"  {change.partition('=')[0]}: " in str(refused.value)
    assert "critic.updates" not in str(refused.value)
    assert not (tmp_path / "new").exists()


def test_where_nothing_can_begin(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    with pytest.raises(RunError, match=r"has done 4 iterations and run\.iterations is 4: nothing is left"):
        fork_origin(str(old), chosen("run.iterations=4"), new)
    with pytest.raises(RunError, match="choose another --out"):
        fork_origin(str(old), chosen(), old)
    with pytest.raises(RunError, match="is no run folder"):
        fork_origin(str(tmp_path), chosen(), new)
    with pytest.raises(RunError, match="keeps no whole checkpoint of iteration 3; it has: 2, 4"):
        fork_origin(f"{old}@3", chosen(), new)
    with pytest.raises(RunError, match="no fork of"):
        fork_origin(str(tmp_path / "new"), chosen(), old)
    assert not new.exists()
