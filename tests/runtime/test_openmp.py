"""What OpenMP is asked for before torch is loaded, and what is left to the user."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fewstep.runtime.openmp import SPINS, processor_quota, settle_openmp

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
SAID = f"import fewstep, os; print(*(os.environ.get(name) for name in {NAMES}))"


def without_openmp() -> dict[str, str]:
    known = ("OMP_", "GOMP_", "KMP_")
    left = {key: value for key, value in os.environ.items() if not key.startswith(known)}
    return left | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, ["PASSIVE", SPINS]),
        ({"OMP_WAIT_POLICY": "active"}, ["active", "None"]),
        ({"GOMP_SPINCOUNT": "100"}, ["None", "100"]),
    ],
)
def test_threads_soon_sleep_unless_the_user_says_how_they_wait(given: dict[str, str], said: list[str]) -> None:
    environment = without_openmp() | given | {"OMP_NUM_THREADS": "3"}
    ran = subprocess.run([sys.executable, "-c", SAID], env=environment, capture_output=True, check=True, text=True)
    assert ran.stdout.split() == [*said, "3"]


@pytest.mark.parametrize(
    ("text", "quota"), [("150000 100000", 1.5), ("max 100000", None), ("", None), (None, None), ("50000 0", None)]
)
def test_a_container_s_quota(text: str | None, quota: float | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "cpu.max").write_text(text)
    assert processor_quota(tmp_path / "cpu.max") == quota


def test_a_quota_below_the_machine_s_processors_is_the_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text("50000 100000")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    settle_openmp(tmp_path / "cpu.max")
    assert os.environ["OMP_NUM_THREADS"] == "7"
    monkeypatch.delenv("OMP_NUM_THREADS")
    settle_openmp(tmp_path / "cpu.max")
    assert os.environ["OMP_NUM_THREADS"] == "1"
