"""A disk that fills, or a folder that may not be written, in the midst of a run: the error names the
remedy, nothing whole is harmed, and the same command goes on."""

import ctypes
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewstep.train.checkpoint import Checkpoints
from tests.cli.command_line import write_recipe
from tests.cli.processes import Command, assert_same_run_folder, run_through
from tests.train.runs import whole_lines


def full(room: int) -> Callable[[], object]:
    """No file grows beyond `room` bytes: the system's answer is that of a full disk."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def mode_bits_count() -> None:
    """Also for root: without its capabilities it is a user like others."""
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None, use_errno=True).capset(header, none) == 0


@pytest.fixture
def file(recipe: dict[str, Any], tmp_path: Path) -> str:
    recipe["run"] |= {"save_every_iterations": 1, "sample_every_iterations": 0}
    return write_recipe(recipe, tmp_path)


@pytest.fixture
def begun(file: str, tmp_path: Path) -> Path:
    """A run that was asked to end after its first iterations."""
    run = tmp_path / "b" / "run"
    run.parent.mkdir()
    command = Command(tmp_path / "log", "distill", file, "--out", run)
    command.until(lambda: whole_lines(run) >= 1)
    command.kill(15)
    assert command.wait() == 143
    return run


def refused(command: Command, *words: str) -> None:
    assert command.wait() == 2, command.output
    assert "Traceback" not in command.output
    for word in words:
        assert word in command.output, command.output


def assert_goes_on(file: str, run: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert_same_run_folder(run_through(file, tmp_path / "a" / "run"), run_through(file, run), 4)


def held(run: Path) -> dict[str, bytes]:
    """The last whole checkpoint's files."""
    place = Checkpoints(run / "checkpoints", 1).latest()
    assert place is not None
    return {file.name: file.read_bytes() for file in place.iterdir()}


@pytest.mark.parametrize("room", [9_000, 30_000])
def test_a_disk_that_fills_while_a_checkpoint_is_saved(file: str, begun: Path, tmp_path: Path, room: int) -> None:
    before = held(begun)
    assert max(map(len, before.values())) > room
    command = Command(tmp_path / "log", "distill", file, "--out", begun, first=full(room))
    refused(command, "cannot be written", "Free some space, or choose another disk")
    assert held(begun) == before
    assert not list((begun / "checkpoints").glob("*.tmp"))
    assert_goes_on(file, begun, tmp_path)


def test_a_disk_that_fills_while_the_student_is_written(file: str, begun: Path, tmp_path: Path) -> None:
    command = Command(tmp_path / "log", "distill", file, "--out", begun, first=full(room=200_000))
    refused(command, "cannot be written", "Free some space")
    assert not list((begun / "student").iterdir())
    to = tmp_path / "lora"
    command = Command(tmp_path / "log", "export", begun, "--to", to, "--form", "adapter", first=full(room=9_000))
    refused(command, "cannot be written", "Free some space")
    assert not to.exists()
    (begun / ".student.1.tmp").mkdir()  # as a kill leaves it
    assert_goes_on(file, begun, tmp_path)
    assert not list(begun.glob(".student.*"))


@pytest.mark.parametrize("part", ["checkpoints", pytest.param(".", marks=pytest.mark.slow)])
def test_a_folder_that_may_not_be_written_any_more(file: str, begun: Path, tmp_path: Path, part: str) -> None:
    before = held(begun)
    (begun / part).chmod(0o555)
    command = Command(tmp_path / "log", "distill", file, "--out", begun, first=mode_bits_count)
    refused(command, "cannot be written: Permission denied", "Choose a folder you may write to")
    (begun / part).chmod(0o755)
    assert held(begun) == before
    assert_goes_on(file, begun, tmp_path)


def test_a_place_for_runs_that_may_not_be_written(file: str, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs").chmod(0o555)
    command = Command(tmp_path / "log", "distill", file, "--out", tmp_path / "runs" / "a", first=mode_bits_count)
    refused(command, "cannot be written: Permission denied")
    assert not list((tmp_path / "runs").iterdir())
