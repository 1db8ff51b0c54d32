"""Each test works on a copy of the fixtures, in whose folder the commands run: recipes and galleries name nothing
outside it."""

import shutil
from pathlib import Path

import pytest

from tests.compatibility.held import FIXTURES


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(FIXTURES, folder)
    monkeypatch.chdir(folder)
    return folder
