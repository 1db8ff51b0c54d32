"""A study's runs examined again: on more cases, or because an examination is lost. Nothing is trained for it."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from fewstep.runtime.errors import StudyError
from fewstep.runtime.reporter import SILENT
from fewstep.study.examination import Examination
from fewstep.study.folder import StudyFolder
from fewstep.study.worlds import EXAMINED
from tests.study.made_studies import changed
from tests.study.test_run import grid_of, ran, ran_report, refused


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study's file and the finished study of one case a category."""
    place = tmp_path_factory.mktemp("finished")
    (place / "tiny.yaml").write_text(yaml.safe_dump(changed(), sort_keys=False))
    ran("run", place / "tiny.yaml", "--out", place / "study")
    return place


@pytest.fixture
def study(finished: Path, tmp_path: Path) -> tuple[str, Path]:
    """A finished study of one case a category, and its file."""
    shutil.copytree(finished, tmp_path / "copy")
    return str(tmp_path / "copy" / "tiny.yaml"), tmp_path / "copy" / "study"


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
    assert f"that stays in {aside}" in output
    assert "even-seed0 is done" in ran("run", file, "--out", folder, "--cases", "2")
    told = refused("run", file, "--out", folder)  # only where it is asked for
    assert "protocol.cases: 2 -> 1" in told
    assert "fewstep study run --cases 1 asks another number" in told


def test_the_number_before_brings_its_examination_back(study: tuple[str, Path]) -> None:
    file, folder = study
    before = answers(folder)
    ran("run", file, "--out", folder, "--cases", "2")
    two = answers(folder)
    output = ran("run", file, "--out", folder, "--cases", "1")
    assert "brought back" in output
    assert "even-seed0 is done" in output
    assert answers(folder) == before
    ran("run", file, "--out", folder, "--cases", "2")
    assert answers(folder) == two


def test_verdicts_on_another_number_of_cases_do_not_count(study: tuple[str, Path]) -> None:
    """Those of a job that was still at work with the number before."""
    file, folder = study
    late = folder / "examination" / "even-seed0" / "000002" / "verdicts" / "probe.jsonl"
    old = late.read_text()
    ran("run", file, "--out", folder, "--cases", "2")
    late.write_text(old)
    ran("run", file, "--out", folder, "--cases", "2")
    assert verdict_count(folder) == 6


def test_more_cases_of_a_student_that_was_not_kept_are_refused_before_anything_moves(study: tuple[str, Path]) -> None:
    file, folder = study
    for left in (folder / "runs" / "none-seed0" / "students").glob("iteration-000001*"):
        left.unlink()
    before = answers(folder)
    assert "does not keep its student of 1 iterations" in refused("run", file, "--out", folder, "--cases", "2")
    assert answers(folder) == before


def test_other_changes_are_refused_beside_more_cases(study: tuple[str, Path]) -> None:
    file, folder = study
    before = answers(folder)
    assert "run.iterations" in refused("run", file, "--out", folder, "--cases", "2", "--set", "run.iterations=4")
    assert answers(folder) == before


def test_killed_before_the_record_says_more(study: tuple[str, Path]) -> None:
    """Examinations are set aside first. A kill then leaves runs without one; the same command goes on, and so does the
    one before."""
    file, folder = study
    before = answers(folder)
    (folder / "examination").rename(folder / "examination-of-1-cases")
    assert len(ran_report(folder)["missing"]) == 3
    ran("run", file, "--out", folder)
    assert answers(folder) == before
    (folder / "examination").rename(folder / "examination-of-1-cases")
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


def test_a_damaged_student_is_told_with_what_helps(study: tuple[str, Path]) -> None:
    """A study's user can name no other iteration. What the message says is done here, and the run is made again."""
    file, folder = study
    before = answers(folder)
    run, pictures = folder / "runs" / "none-seed0", folder / "examination" / "none-seed0"
    kept = run / "students" / "iteration-000002.safetensors"
    content = kept.read_bytes()
    kept.unlink()  # the checkpoint shares its file
    kept.write_bytes(content[:-1] + b"~")
    shutil.rmtree(pictures / "000002")
    told = refused("run", file, "--out", folder)
    assert f"the student of 2 iterations that {run} keeps cannot be read" in told
    assert f"remove {run} and {pictures}, and the same command makes the run again" in told
    assert "Name another iteration" not in told
    shutil.rmtree(run)
    shutil.rmtree(pictures)
    ran("run", file, "--out", folder)
    assert answers(folder) == before


def test_the_record_names_the_new_number(study: tuple[str, Path]) -> None:
    file, folder = study
    ran("run", file, "--out", folder, "--cases", "3")
    held = json.loads((folder / "study.json").read_text())
    assert held["plan"]["protocol"]["cases"] == held["described"]["protocol"]["cases"] == 3


def test_killed_before_the_former_examination_is_back(study: tuple[str, Path]) -> None:
    """study.json asks for two cases again, and what was examined on two is still aside."""
    file, folder = study
    ran("run", file, "--out", folder, "--cases", "2")
    two = answers(folder)
    (folder / "examination").rename(folder / "examination-of-2-cases")
    assert len(ran_report(folder)["missing"]) == 3
    assert "brought back" in ran("run", file, "--out", folder, "--cases", "2")
    assert answers(folder) == two


def test_a_name_that_is_taken_is_not_overwritten(study: tuple[str, Path]) -> None:
    file, folder = study
    shutil.copytree(folder / "examination", folder / "examination-of-1-cases")
    ran("run", file, "--out", folder, "--cases", "2")
    assert (folder / "examination-of-1-cases-2").is_dir()
    assert verdict_count(folder) == 6


def test_answers_to_another_number_of_cases_are_drawn_anew(study: tuple[str, Path]) -> None:
    """A job that was still at work with one case has left its gallery where two are asked."""
    file, folder = study
    one = folder / "examination" / "even-seed0" / "000002"
    shutil.copytree(one, folder.parent / "late")
    ran("run", file, "--out", folder, "--cases", "2")
    shutil.rmtree(one)
    shutil.copytree(folder.parent / "late", one)
    ran("run", file, "--out", folder, "--cases", "2")
    assert verdict_count(folder) == len((one / "manifest.jsonl").read_text().splitlines()) == 6
    found = ran_report(folder)
    assert (found["missing"], found["short"]) == ([], [])


def test_a_job_that_examines_on_fewer_cases_than_the_study_asks_by_now_is_refused(study: tuple[str, Path]) -> None:
    file, folder = study
    grid = grid_of(file)
    examination = Examination(grid, StudyFolder(folder), EXAMINED["pocket"], SILENT)
    ran("run", file, "--out", folder, "--cases", "2")
    with pytest.raises(StudyError, match="is examined on 2 cases a category by now"):
        examination.kept_students(grid.runs[0], [2])
    assert verdict_count(folder) == 6


def test_all_seeds_are_asked_for(study: tuple[str, Path]) -> None:
    file, folder = study
    held = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps(held | {"seeds": [0, 1]}))
    assert "give --seeds 2 too" in refused("run", file, "--out", folder, "--cases", "2")
    assert not (folder / "examination-of-1-cases").exists()


@pytest.mark.parametrize("key", ["described", "iterations", "seeds", "covers"])
def test_a_record_that_lacks_a_key_is_told_in_one_line(key: str, study: tuple[str, Path]) -> None:
    _, folder = study
    held = json.loads((folder / "study.json").read_text())
    del held[key]
    (folder / "study.json").write_text(json.dumps(held))
    assert f"study.json cannot be read (KeyError('{key}')); begin the study anew" in refused("report", folder)
