"""A run that is killed, or asked to end, at any moment, and begun again by the same command."""

import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from fewstep.train.checkpoint import MARKER
from tests.cli.command_line import write_recipe
from tests.cli.processes import Command, assert_same_run_folder, run_through
from tests.train.runs import whole_lines

KILLS = 20
ITERATIONS = 48


@pytest.fixture
def file(recipe: dict[str, Any], tmp_path: Path) -> str:
    """Iterations after two of warm-up, saved after each."""
    recipe["run"] |= {"iterations": ITERATIONS, "save_every_iterations": 1, "sample_every_iterations": 20}
    recipe["critic"] |= {"warmup_iterations": 2}
    return write_recipe(recipe, tmp_path)


def begun_and_killed(file: str, run: Path, moment: str, chance: random.Random, log: Path) -> None:
    """One life of a run: killed while it starts, between two saves, or inside one."""
    saving, recorded = run / "checkpoints", count(run)
    if moment == "saving":
        for left in saving.glob("*.tmp"):
            shutil.rmtree(left)  # so that the next one is this life's
    command = Command(log, "distill", file, "--out", run)
    if moment == "saving":
        command.until(lambda: any(saving.glob("*.tmp")))
    elif moment == "training":
        command.until(lambda: count(run) > recorded)
    longest_s, most = {"starting": (0.4, 1), "training": (0.15, 2), "saving": (0.01, 1)}[moment]
    end_s = time.monotonic() + chance.uniform(0, longest_s)
    command.until(lambda: time.monotonic() > end_s or count(run) > recorded + most)  # fast machines must not finish
    assert not command.ended(), command.output
    command.kill()
    assert command.wait() == -signal.SIGKILL


def count(run: Path) -> int:
    """Lines of its metrics, also torn ones."""
    return (run / "metrics.jsonl").read_bytes().count(b"\n") if (run / "metrics.jsonl").exists() else 0


def test_killed_at_twenty_moments_it_ends_as_the_unbroken_one(file: str, tmp_path: Path) -> None:
    chance, torn, reached = random.Random(3), 0, []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    killed = tmp_path / "b" / "run"
    for turn in range(KILLS):
        moment = ("starting", "saving", "training", "saving")[turn % 4]
        begun_and_killed(file, killed, moment, chance, tmp_path / "log")
        torn += moment == "saving" and any((killed / "checkpoints").glob("*.tmp"))
        reached.append(count(killed))
    assert torn >= 3, "of ten kills inside a save some leave it half done"
    assert len(set(reached)) >= 5, "they came at different stages of the run"
    assert_same_run_folder(run_through(file, tmp_path / "a" / "run"), run_through(file, killed), ITERATIONS)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_makes_it_save_and_name_how_to_go_on(file: str, tmp_path: Path, number: int, code: int) -> None:
    run = tmp_path / "runs" / "a"
    run.parent.mkdir()
    command = Command(tmp_path / "log", "distill", file, "--out", run, "--set", "run.save_every_iterations=100")
    command.until(lambda: whole_lines(run) >= 3)
    command.kill(number)
    assert command.wait() == code
    assert f"stopped by {number.name} and saved in" in command.output
    assert "The same command goes on from there" in command.output
    (saved,) = (run / "checkpoints").iterdir()
    assert (saved / MARKER).is_file()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_training_names_it_too(file: str, tmp_path: Path, number: int) -> None:
    long = ("--set", "run.iterations=100000")  # not over before a busy machine lets this test look
    command = Command(tmp_path / "log", "distill", file, "--out", tmp_path / "runs" / "a", *long)
    command.until((tmp_path / "runs" / "a" / "recipe.yaml").is_file)
    command.kill(number)
    assert command.wait() == 128 + number
    assert "The same command goes on" in command.output


def test_a_checkpoint_torn_meanwhile_is_passed_over_with_a_message(recipe: dict[str, Any], tmp_path: Path) -> None:
    file = write_recipe(recipe, tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        run_through(file, tmp_path / name / "run")
    torn = tmp_path / "b" / "run"
    shutil.rmtree(torn / "student")
    (torn / "checkpoints" / "iteration-000004" / "critic.safetensors").write_bytes(b"")
    command = Command(tmp_path / "log", "distill", file, "--out", torn)
    assert command.wait() == 0
    assert "iteration-000004 is passed over: its critic.safetensors is missing or cut short" in command.output
    assert_same_run_folder(tmp_path / "a" / "run", torn, 4)
