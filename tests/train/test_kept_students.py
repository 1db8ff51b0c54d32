"""The averaged student of every save: it outlives its checkpoint, and is whole or absent."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fewstep.runtime.errors import EnvironmentRefused, RunError
from fewstep.train.checkpoint import Position, load_checkpoint
from fewstep.train.kept_students import KeptStudents
from tests.train.runs import toy_trainer

SAVES = [2, 4, 6]


def trained(
    folder: Path, *, keep_checkpoints: int = 1, iterations: int = 6, keep_students: bool = True
) -> KeptStudents:
    plan = {"iterations": iterations, "keep_checkpoints": keep_checkpoints, "keep_students": keep_students}
    toy_trainer(folder, **plan).train()
    return KeptStudents(folder)


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def checkpoint(folder: Path, iteration: int) -> Path:
    return folder / "checkpoints" / Position(iteration).name


def test_each_save_leaves_its_student_when_its_checkpoint_goes(tmp_path: Path) -> None:
    kept, every = trained(tmp_path / "few"), trained(tmp_path / "all", keep_checkpoints=9)
    assert kept.iterations() == every.iterations() == SAVES
    assert [place.name for place in (tmp_path / "few" / "checkpoints").iterdir()] == [Position(6).name]
    for iteration in SAVES:
        held, state = load_checkpoint(checkpoint(tmp_path / "all", iteration))
        assert equal(kept.load(iteration), held["student_average"])
        found = kept.find(iteration)
        assert (found.iteration, found.tasks) == (iteration, state["tasks"])
        assert found.place == tmp_path / "few" / "students" / f"{Position(iteration).name}.safetensors"
    with pytest.raises(RunError, match="no student of iteration 3; it has: 2, 4, 6"):
        kept.load(3)


def test_none_are_kept_where_the_recipe_says_so(tmp_path: Path) -> None:
    assert trained(tmp_path, keep_students=False).iterations() == [6]
    assert not (tmp_path / "students").exists()


def test_a_kept_student_takes_no_disk_beside_its_checkpoint(tmp_path: Path) -> None:
    place = trained(tmp_path).find(6).place
    assert place.samefile(checkpoint(tmp_path, 6) / "student_average.safetensors")


def test_where_the_file_system_has_no_links_it_is_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*paths: object) -> None:
        raise OSError(95, "Operation not supported")

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", none)
        kept = trained(tmp_path)
    assert not kept.find(6).place.samefile(checkpoint(tmp_path, 6) / "student_average.safetensors")
    assert equal(kept.load(6), load_checkpoint(checkpoint(tmp_path, 6))[0]["student_average"])


def test_what_is_not_what_was_written_is_refused(tmp_path: Path) -> None:
    kept = trained(tmp_path)
    place = kept.find(2).place
    data = bytearray(place.read_bytes())
    data[-1] ^= 1
    place.write_bytes(bytes(data))
    with pytest.raises(RunError, match=r"iteration-000002\.safetensors is not what was written .* kept are: 2, 4, 6"):
        kept.load(2)
    place.write_bytes(bytes(data[:-10]))
    assert kept.iterations() == [4, 6]


def test_resuming_removes_nothing_and_makes_again_what_runs_again(tmp_path: Path) -> None:
    kept = trained(tmp_path, keep_checkpoints=9)
    before = {iteration: kept.load(iteration) for iteration in SAVES}
    for iteration in (4, 6):
        shutil.rmtree(checkpoint(tmp_path, iteration))
    toy_trainer(tmp_path, hooks={"on_iteration": lambda i, line: "stop" if i == 2 else None}).train()
    assert kept.iterations() == [2, 3, 4, 6]
    trained(tmp_path)
    assert kept.iterations() == [2, 3, 4, 6]
    assert all(equal(kept.load(iteration), before[iteration]) for iteration in SAVES)


def test_a_run_of_before_keeps_from_where_it_goes_on(tmp_path: Path) -> None:
    kept = trained(tmp_path, keep_checkpoints=2, iterations=4)
    shutil.rmtree(tmp_path / "students")
    assert kept.iterations() == [2, 4]
    assert equal(kept.load(2), load_checkpoint(checkpoint(tmp_path, 2))[0]["student_average"])
    assert trained(tmp_path, keep_checkpoints=1, iterations=8).iterations() == [2, 4, 6, 8]
    assert [place.name for place in (tmp_path / "checkpoints").iterdir()] == [Position(8).name]


def test_killed_at_any_moment_it_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while it replaces another one: what is there is the old student, the new one, or none."""

    class Killed(BaseException):
        pass

    def dying(real: object, after: list[int]) -> object:
        def call(*args: object, **named: object) -> object:
            after[0] -= 1
            if after[0] < 0:
                raise Killed
            return real(*args, **named)  # type: ignore[operator]

        return call

    old = trained(tmp_path / "old")
    toy_trainer(tmp_path / "other", seed=1, keep_checkpoints=9).train()
    known = [old.load(6), load_checkpoint(checkpoint(tmp_path / "other", 6))[0]["student_average"]]
    moments, finished = 0, False
    while not finished:
        run = tmp_path / f"run{moments}"
        (run / "checkpoints").mkdir(parents=True)
        kept = KeptStudents(run)
        kept.keep(checkpoint(tmp_path / "old", 6))
        with monkeypatch.context() as patched:
            after = [moments]
            for name in ("fsync", "replace", "unlink", "link", "mkdir"):
                patched.setattr(os, name, dying(getattr(os, name), after))
            try:
                kept.keep(checkpoint(tmp_path / "other", 6))
                finished = True
            except Killed:
                pass
        if kept.iterations():
            assert any(equal(kept.load(6), student) for student in known)
        shutil.copytree(tmp_path / "other" / "checkpoints", run / "checkpoints", dirs_exist_ok=True)
        kept.complete()
        assert equal(kept.load(6), known[1])
        assert not list(kept.folder.glob(".*"))
        moments += 1
    assert moments > 5


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*paths: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    trained(tmp_path / "old")
    with monkeypatch.context() as patched:
        patched.setattr(os, "link", full)
        patched.setattr(shutil, "copy2", full)
        with pytest.raises(EnvironmentRefused, match=r"students.*cannot be written: No space left"):
            KeptStudents(tmp_path / "new").keep(checkpoint(tmp_path / "old", 6))
    assert KeptStudents(tmp_path / "new").iterations() == []
