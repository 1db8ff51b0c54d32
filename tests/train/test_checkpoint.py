"""Checkpoints are whole or not there."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from fewstep.runtime.errors import EnvironmentRefused, RunError
from fewstep.train.checkpoint import (
    MARKER,
    Checkpoints,
    Position,
    checkpoint_fault,
    load_checkpoint,
)
from tests.train.tiny_model import normal

TENSORS = {"student": {"a.weight": normal(3, 2), "b": torch.tensor([1e-45, -0.0, 3e38])}, "optimiser": {}}


def store(folder: Path, keep: int = 3) -> tuple[Checkpoints, list[str]]:
    messages: list[str] = []
    return Checkpoints(folder, keep, messages.append), messages


def test_every_bit_comes_back(tmp_path: Path) -> None:
    checkpoints, _ = store(tmp_path)
    place = checkpoints.save(Position(5), TENSORS, {"best": None, "x": 0.1})
    tensors, state = load_checkpoint(place)
    assert state == {"best": None, "x": 0.1}
    assert tensors.keys() == TENSORS.keys()
    for name, value in TENSORS["student"].items():
        assert torch.equal(tensors["student"][name].view(torch.int32), value.view(torch.int32))


def test_the_newest_is_the_furthest(tmp_path: Path) -> None:
    checkpoints, _ = store(tmp_path)
    assert checkpoints.latest() is None
    for position in (Position(0, 7), Position(0, 20), Position(2, 20), Position(10, 20)):
        checkpoints.save(position, TENSORS, {})
        assert checkpoints.latest() == tmp_path / position.name


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    checkpoints, _ = store(tmp_path, keep=2)
    for i in range(1, 7):
        checkpoints.save(Position(i), TENSORS, {}, best=[2] if i >= 2 else [])
    assert sorted(p.name for p in tmp_path.iterdir()) == [Position(i).name for i in (2, 5, 6)]


def damaged(place: Path, how: str) -> None:
    if how == "unfinished":
        (place / MARKER).unlink()
    elif how == "marker torn":
        (place / MARKER).write_text('{"state.js')
    elif how == "file gone":
        (place / "student.safetensors").unlink()
    else:
        data = (place / "student.safetensors").read_bytes()
        (place / "student.safetensors").write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize("how", ["unfinished", "marker torn", "file gone", "cut short"])
def test_a_torn_one_is_passed_over_with_a_message(tmp_path: Path, how: str) -> None:
    checkpoints, messages = store(tmp_path)
    good = checkpoints.save(Position(1), TENSORS, {})
    damaged(checkpoints.save(Position(2), TENSORS, {}), how)
    assert checkpoints.latest() == good
    assert len(messages) == 1
    assert "iteration-000002 is passed over" in messages[0]


def test_a_kill_at_any_moment_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call that touches the disk is a moment: stop there, and what is on disk must still load."""

    class Killed(BaseException):
        pass

    def dying(real: object, after: list[int]) -> object:
        def call(*args: object, **named: object) -> object:
            after[0] -= 1
            if after[0] < 0:
                raise Killed
            return real(*args, **named)  # type: ignore[operator]

        return call

    moments, finished = 0, False
    while not finished:
        folder = tmp_path / str(moments)
        checkpoints, _ = store(folder)
        checkpoints.save(Position(1), TENSORS, {"at": 1})
        with monkeypatch.context() as patched:
            after = [moments]
            for name in ("fsync", "rename", "unlink", "rmdir", "mkdir"):
                patched.setattr(os, name, dying(getattr(os, name), after))
            try:
                checkpoints.save(Position(2), TENSORS, {"at": 2})
                checkpoints.save(Position(2), TENSORS, {"at": 3})  # the same one again
                finished = True
            except Killed:
                pass
        latest = checkpoints.latest()
        assert latest is not None
        assert checkpoint_fault(latest) is None
        assert load_checkpoint(latest)[1]["at"] in (1, 2, 3)
        checkpoints.save(Position(3), TENSORS, {"at": 4})  # and the next run can go on
        assert not list(folder.glob("*.tmp"))
        moments += 1
    assert moments > 10


def test_a_full_disk_leaves_the_earlier_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints, _ = store(tmp_path)
    good = checkpoints.save(Position(1), TENSORS, {})

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EnvironmentRefused, match="Free some space"):
        checkpoints.save(Position(2), TENSORS, {})
    assert list(tmp_path.iterdir()) == [good]


def test_damage_of_the_same_size_is_named(tmp_path: Path) -> None:
    checkpoints, _ = store(tmp_path)
    place = checkpoints.save(Position(1), TENSORS, {})
    size = (place / "student.safetensors").stat().st_size
    (place / "student.safetensors").write_bytes(b"\xff" * size)
    with pytest.raises(RunError, match="iteration-000001 is damaged"):
        load_checkpoint(place)


def flip(file: Path) -> None:
    """One bit of the last byte, as a disk or a memory may."""
    data = bytearray(file.read_bytes())
    data[-2] ^= 1
    file.write_bytes(bytes(data))


@pytest.mark.parametrize("name", ["student.safetensors", "optimiser.safetensors", "state.json", "hashes.json"])
def test_a_flipped_bit_is_seen(tmp_path: Path, name: str) -> None:
    checkpoints, messages = store(tmp_path)
    good = checkpoints.save(Position(1), TENSORS, {"at": 1})
    place = checkpoints.save(Position(2), TENSORS, {"at": 2})
    flip(place / name)
    assert checkpoint_fault(place) is None
    with pytest.raises(RunError, match=rf"iteration-000002 is damaged: its {name} is not what was written"):
        load_checkpoint(place)
    assert checkpoints.latest_intact() == good
    assert f"its {name} is not what was written" in messages[0]


def test_only_files_that_are_read_are_hashed_again(tmp_path: Path) -> None:
    place = store(tmp_path)[0].save(Position(1), TENSORS, {"at": 1})
    flip(place / "student.safetensors")
    assert load_checkpoint(place, stems=["optimiser"]) == ({"optimiser": {}}, {"at": 1})
    with pytest.raises(RunError, match="is not what was written"):
        load_checkpoint(place, stems=["student"])


def test_a_checkpoint_of_before_hashes_is_read(tmp_path: Path) -> None:
    checkpoints, messages = store(tmp_path)
    place = checkpoints.save(Position(1), TENSORS, {"at": 1})
    (place / "hashes.json").unlink()
    sizes = json.loads((place / MARKER).read_text())
    (place / MARKER).write_text(json.dumps({name: size for name, size in sizes.items() if name != "hashes.json"}))
    assert checkpoints.latest_intact() == place
    assert load_checkpoint(place)[1] == {"at": 1}
    assert messages == []


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    shutil.copytree(tmp_path, tmp_path / "iteration-5")
    checkpoints, _ = store(tmp_path, keep=1)
    checkpoints.save(Position(6), TENSORS, {})
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_the_marker_names_every_file(tmp_path: Path) -> None:
    place = store(tmp_path)[0].save(Position(1), TENSORS, {})
    sizes = json.loads((place / MARKER).read_text())
    assert sizes == {p.name: p.stat().st_size for p in place.iterdir() if p.name != MARKER}
