"""What a killed export leaves is removed once nobody uses it, and never before."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fewstep.export.folder import _new_folder
from fewstep.export.leftovers import OWNER, leftovers, remove_leftovers
from fewstep.runtime.errors import ExportError

WRITING = """
import sys, time
from pathlib import Path
from fewstep.export.leftovers import owned
folder = Path(sys.argv[1])
folder.mkdir()
with owned(folder):
    (folder / "weights").write_bytes(bytes(2_000_000))
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bool]:
    """The folder of an export that was killed, after a look at it while it was alive: whether it was left alone."""
    place = tmp_path_factory.mktemp("exports")
    command = [sys.executable, "-c", WRITING, str(place / ".student.4.tmp")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        remove_leftovers(place, lambda text: None)
        left_alone = folder.is_dir() and leftovers(place) == []
        process.send_signal(signal.SIGKILL)
    return folder, left_alone


@pytest.fixture
def place(killed: tuple[Path, bool], tmp_path: Path) -> Path:
    """A copy of what it left."""
    shutil.copytree(killed[0].parent, tmp_path / "exports")
    return tmp_path / "exports"


def test_one_that_is_being_written_is_left_alone(killed: tuple[Path, bool]) -> None:
    assert killed[1]


def test_one_of_a_dead_process_is_removed_and_told(place: Path) -> None:
    (left,) = leftovers(place)
    assert left.dead
    assert "0.0 GB" in left.words()
    said: list[str] = []
    remove_leftovers(place, said.append)
    assert list(place.iterdir()) == []
    assert said == [f"removed {left.folder} (0.0 GB), left by an export that was killed"]


def test_what_may_be_another_machine_s_is_only_named(place: Path) -> None:
    (left,) = leftovers(place)
    (left.folder / OWNER).write_text("elsewhere")
    said: list[str] = []
    remove_leftovers(place, said.append)
    assert left.folder.is_dir()
    assert "if none is running there: delete it" in said[0]


def test_one_of_an_earlier_version_is_only_named(tmp_path: Path) -> None:
    (tmp_path / ".student.77.tmp" / "transformer").mkdir(parents=True)
    (tmp_path / ".notes.77.tmp").mkdir()  # not ours
    said: list[str] = []
    remove_leftovers(tmp_path, said.append)
    assert len(list(tmp_path.iterdir())) == 2
    assert len(said) == 1
    assert ".student.77.tmp" in said[0]


def test_what_ends_well_or_is_refused_leaves_nothing(tmp_path: Path) -> None:
    with _new_folder(tmp_path / "student") as folder:
        assert (folder / OWNER).is_file()
    assert os.listdir(tmp_path / "student") == []
    with pytest.raises(ExportError), _new_folder(tmp_path / "other"):
        raise ExportError("no")
    assert os.listdir(tmp_path) == ["student"]
    assert leftovers(tmp_path / "nowhere") == []
