"""Where set-up mended an environment any program can import torchvision; a whole torchvision is left as it is."""

import runpy
from pathlib import Path

import pytest

from fewstep.runtime import torchvision_pair
from tests.cli.command_line import fewstep
from tests.runtime.test_torchvision_pair import BROKEN, fake, run

SCRIPT = Path(__file__).parents[2] / "scripts" / "mend_torchvision.py"
USE = "import torchvision, torchvision.first; print(torchvision.__file__, torchvision.first.imports)"


@pytest.fixture(scope="module")
def line() -> str:
    """What set-up writes into the .pth file, which Python runs when it starts."""
    return str(runpy.run_path(str(SCRIPT))["LINE"])


def test_a_foreign_build_can_be_imported_by_any_program(line: str, tmp_path: Path) -> None:
    folder = fake(tmp_path, BROKEN)
    assert "torchvision::nms does not exist" in run(USE, folder).stderr
    done = run(f"{line}{USE}", folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{folder / 'torchvision' / '__init__.py'} 1"


def test_whether_it_is_there_is_answered_as_before(line: str, tmp_path: Path) -> None:
    ask = "import importlib.util; print(importlib.util.find_spec('torchvision') is not None)"
    assert run(f"{line}{ask}", fake(tmp_path, BROKEN)).stdout.strip() == "True"
    hidden = "import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]\n"
    assert run(f"{line}{hidden}{ask}").stdout.strip() == "False"


def test_a_whole_one_is_imported_as_it_is(line: str, tmp_path: Path) -> None:
    done = run(f"{line}{USE}\nimport sys; print('torch' in sys.modules)", fake(tmp_path, "done = 1\n"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "False", "nothing else was imported"


def test_the_fault_and_its_remedy_are_told(line: str, tmp_path: Path) -> None:
    ask = "from fewstep.runtime import torchvision_pair as pair; pair.ensure(); print(pair.pair_fault())"
    folder = fake(tmp_path, BROKEN)
    plain, mended = run(ask, folder).stdout, run(f"{line}{ask}", folder).stdout
    assert "of different builds" in plain
    assert "pip install --force-reinstall torch torchvision" in plain
    assert "is mended in this environment" in mended


def test_doctor_tells_it() -> None:
    output = fewstep("doctor").output
    assert ("of different builds" in output) == (torchvision_pair.pair_fault() is not None)
