"""Which checkpoint of a run is exported: the one that was asked for, or none."""

from pathlib import Path
from typing import Any

import pytest

from fewstep.run.folder import RunDir
from fewstep.run.recipe import load_recipe
from fewstep.run.student import checkpoint_of
from fewstep.runtime.errors import RunError
from tests.train.runs import toy_trainer

LONG: dict[str, Any] = {"iterations": 6, "save_every_iterations": 2}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy run with checkpoints of three iterations, in the folder of a recipe. Not to be changed."""
    folder = tmp_path_factory.mktemp("run") / "toy"
    with RunDir.open_or_create(folder, load_recipe("pocket", ["run.iterations=6"])):
        toy_trainer(folder, **LONG).train()
    return folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> RunDir:
    """A copy to break."""
    (tmp_path / "run").mkdir()
    for file in (file for file in whole.rglob("*") if file.is_file() and not file.name.startswith(".")):
        to = tmp_path / "run" / file.relative_to(whole)
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(file.read_bytes())
    return RunDir.open(tmp_path / "run")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))


def gone(file: Path) -> None:
    (file.parent / "COMPLETE").unlink()


def test_each_name_is_its_own_checkpoint(run: RunDir) -> None:
    for which, name in (("last", "iteration-000006"), ("best", "iteration-000006"), ("4", "iteration-000004")):
        assert checkpoint_of(run, which).name == name


@pytest.mark.parametrize("damage", [cut, flip, gone])
@pytest.mark.parametrize("which", ["last", "best", "6"])
def test_an_older_one_never_stands_in_without_a_word(run: RunDir, which: str, damage: Any) -> None:
    damage(run.checkpoints / "iteration-000006" / "student_average.safetensors")
    with pytest.raises(RunError, match=r"iteration-000006, .* cannot be used: .* complete are: .*4"):
        checkpoint_of(run, which)
    assert checkpoint_of(run, "4").name == "iteration-000004"


def test_what_is_not_exported_need_not_be_whole_bit_for_bit(run: RunDir) -> None:
    flip(run.checkpoints / "iteration-000006" / "critic_optimiser.safetensors")
    assert checkpoint_of(run, "last", ["student_average"]).name == "iteration-000006"
    with pytest.raises(RunError, match=r"critic_optimiser\.safetensors is not what was written"):
        checkpoint_of(run, "last")


def test_what_is_not_there_names_what_is(run: RunDir) -> None:
    with pytest.raises(RunError, match=r"no whole checkpoint of iteration 5; it has: .*4, 6"):
        checkpoint_of(run, "5")
    with pytest.raises(RunError, match="best, last or an iteration's number"):
        checkpoint_of(run, "newest")
    for place in run.checkpoints.iterdir():
        (place / "COMPLETE").unlink()
    with pytest.raises(RunError, match="no whole checkpoint yet"):
        checkpoint_of(run, "last")
