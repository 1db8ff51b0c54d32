"""A study's runs examined again: on more cases, or because an examination is lost. Nothing is trained for it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.study.test_run import ran, ran_report, refused


@pytest.fixture
def study(study_file: Callable[..., str], tmp_path: Path) -> tuple[str, Path]:
    """A finished study of one case a category, and its file."""
    file, folder = study_file(), tmp_path / "study"
    ran("run", file, "--out", folder)
    return file, folder


def weights(folder: Path) -> dict[str, int]:
    """When each file of a run's weights was made."""
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.glob("runs/*/**/*.safetensors"))}


def answers(folder: Path) -> dict[str, bytes]:
    """Pictures, records and verdicts of the students, by path."""
    found = sorted(folder.glob("examination/*-seed0/**/*"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if path.is_file()}


def verdict_count(folder: Path) -> int:
    lines = (folder / "examination" / "even-seed0" / "000002" / "verdicts" / "probe.jsonl").read_text()
    return len(lines.splitlines())


def test_more_cases_are_asked_of_the_same_runs(study: tuple[str, Path]) -> None:
    file, folder = study
    made, before = weights(folder), answers(folder)
    output = ran("run", file, "--out", folder, "--cases", "2")
    assert "after 2 iterations: score" in output
    assert weights(folder) == made
    assert verdict_count(folder) == 6
    found = ran_report(folder)
    assert (found["protocol"]["cases"], found["missing"]) == (2, [])

    aside = folder / "examination-of-1-cases"
    kept = {f"examination/{path.relative_to(aside)}": path.read_bytes() for path in aside.rglob("*") if path.is_file()}
    assert before.items() <= kept.items()
    assert "even-seed0 is done" in ran("run", file, "--out", folder, "--cases", "2")
    assert "protocol.cases: 2 -> 1" in refused("run", file, "--out", folder)
    assert "protocol.cases: 2 -> 1" in refused("run", file, "--out", folder, "--cases", "1")


def test_other_changes_are_refused_beside_more_cases(study: tuple[str, Path]) -> None:
    file, folder = study
    before = answers(folder)
    assert "run.iterations" in refused("run", file, "--out", folder, "--cases", "2", "--set", "run.iterations=4")
    assert answers(folder) == before


def test_killed_before_the_record_says_more(study: tuple[str, Path]) -> None:
    """Examinations are set aside first. A kill then leaves runs without one, and the same command goes on."""
    file, folder = study
    (folder / "examination").rename(folder / "examination-of-1-cases")
    assert len(ran_report(folder)["missing"]) == 3
    ran("run", file, "--out", folder, "--cases", "2")
    assert verdict_count(folder) == 6
    assert ran_report(folder)["missing"] == []


def test_a_lost_examination_is_made_again_from_the_kept_students(study: tuple[str, Path]) -> None:
    file, folder = study
    before, made = answers(folder), weights(folder)
    shutil.rmtree(folder / "examination")
    ran("run", file, "--out", folder)
    assert answers(folder) == before
    assert weights(folder) == made


def test_a_student_that_was_not_kept_is_told(study: tuple[str, Path]) -> None:
    file, folder = study
    run = folder / "runs" / "none-seed0"
    for left in (run / "students").glob("iteration-000001*"):
        left.unlink()
    shutil.rmtree(folder / "examination" / "none-seed0" / "000001")
    told = refused("run", file, "--out", folder)
    assert "its examination after 1 iterations is gone, and its weights of then are not kept" in told


def test_the_record_names_the_new_number(study: tuple[str, Path]) -> None:
    file, folder = study
    ran("run", file, "--out", folder, "--cases", "3")
    held = json.loads((folder / "study.json").read_text())
    assert held["plan"]["protocol"]["cases"] == held["described"]["protocol"]["cases"] == 3
