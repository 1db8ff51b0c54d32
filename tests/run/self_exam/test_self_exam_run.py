"""A tiny Qwen-Image 2.1 examines itself; its students are ranked, the page is written, the best is exported."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fewstep.backbones.testing.tiny_qwen_image_21 import qwen_image_21_pipeline
from fewstep.run.self_exam.results import read_few, read_results
from fewstep.sample.origin import origin_of
from tests.cli.command_line import fewstep, refused
from tests.run.self_exam.test_exam_cases import case_files

SETTINGS = {
    "size": "[64, 64]",
    "data.sizes.t2i": "[]",
    "run.precision": "fp32",
    "run.device": "cpu",
    "run.iterations": 2,
    "run.batch": 2,
    "run.save_every_iterations": 1,
    "run.sample_every_iterations": 0,
    "run.examine_every_iterations": 2,
    "critic.warmup_iterations": 0,
    "critic.updates": 1,
    "examine.prompts": 1,
    "examine.edits": 1,
    "examine.answers.average": "none",
}


def done(*words: str | Path) -> str:
    result = fewstep(*words)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    qwen_image_21_pipeline().save_pretrained(tmp_path / "base")
    files = case_files(tmp_path)
    named = {f"data.{task}.0.source": file for task, file in files.items()}
    named |= {f"examine.{task}": file for task, file in files.items()}
    sets = {**SETTINGS, **named, "model": tmp_path / "base"}
    return [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_from_a_run_to_the_student_that_ships(tmp_path: Path, options: list[str]) -> None:
    run = tmp_path / "run"
    told = done("distill", "qwen-image-2.1", "--out", run, *options)
    assert "examinations: 1 prompts at 2 seeds and 1 edits, every 2 iterations" in told
    assert "t2i.text is missing" in told or "ocr" not in told, "a figure that cannot be had is said"
    examined = [line for line in lines(run) if line["phase"] == "examine"]
    assert [line["iteration"] for line in examined] == [0, 2]
    wanted = {"composite", "t2i.psnr", "t2i.variety", "edit.structure", "examination_seconds"}
    assert all(wanted <= line.keys() for line in examined)

    teacher = sorted((run / "examination" / "pictures" / "teacher").iterdir())
    assert len(teacher) == 3
    assert_teacher_at_few_steps(run)
    shutil.rmtree(run / "examination" / "pictures" / "teacher-at-4")  # as an older version left it
    (run / "examination" / "teacher-at-4.json").unlink()
    written = {path: path.stat().st_mtime_ns for path in teacher}
    ranked = done("rank", run)  # iteration 1 was kept and not examined
    assert written == {path: path.stat().st_mtime_ns for path in teacher}, "the teacher answers once"
    results = read_results(run / "examination")
    assert set(results) == {0, 1, 2}
    assert_teacher_at_few_steps(run)
    chosen = json.loads((run / "examination" / "rank.json").read_text())
    best = max((1, 2), key=lambda i: results[i]["figures"]["composite"])
    assert chosen["ship"] == best
    assert f"ship iteration {best}" in ranked
    few = read_few(run / "examination")
    assert few is not None
    assert f"teacher │ {few['figures']['composite']:.4g} │ │ {few['figures']['t2i.psnr']:.3g}" in ranked
    assert "teacher: at 4 steps without guidance, as many network calls as the student's" in ranked

    (run / "examination" / "results" / "000002.json").unlink()
    done("rank", run)
    again = read_results(run / "examination")[2]["figures"]
    assert again == pytest.approx(results[2]["figures"], rel=1e-6), "a kept student answers as the run's did"

    few_place = run / "examination" / "teacher-at-4.json"  # of another set it says nothing about these students
    few_place.write_text(json.dumps(few | {"set": "another"}))
    told = done("rank", run)
    assert "teacher │" not in told
    assert "The teacher at the student's steps is not in this table" in told
    few_place.write_text(json.dumps(few))

    told = done("export", run, "--to", tmp_path / "student", "--checkpoint", "best", "--form", "adapter")
    assert f"student of iteration {best}" in told
    assert_page(run)
    refused(fewstep("rank", run, "--by", "edit.clip"), "this run's examination has no such figure")
    refused(
        fewstep("distill", "qwen-image-2.1", "--out", run, *options, "--set", "examine.prompts=2"),
        "holds the set that this run began with",
    )


def assert_teacher_at_few_steps(run: Path) -> None:
    """Unguided and at the student's levels: what the student is before its first iteration, to the last bit."""
    folder = run / "examination"
    few = read_few(folder)
    assert few is not None
    assert few["steps"] == 4
    assert few["figures"] == pytest.approx(read_results(folder)[0]["figures"])
    drawn = {path.name: path for path in (folder / "pictures" / "teacher-at-4").iterdir()}
    assert len(drawn) == 3
    for name, path in drawn.items():
        assert origin_of(path) == "teacher base, 4 steps, no guidance"
        with Image.open(path) as own, Image.open(folder / "pictures" / "student-000000" / name) as untrained:
            assert own.tobytes() == untrained.tobytes()


def assert_page(run: Path) -> None:
    """One file that shows what to ship, a curve of the composite, and the frozen set's pictures."""
    done("report", run)
    page = (run / "report.html").read_text()
    parts = "iteration to ship", "Kept students, best first", "composite", "Prompts", "Edits", "It has ended after 2"
    parts += "Teacher at 4", "Teacher, 4 steps", "The teacher at 4 steps: "
    for words in parts:
        assert words in page, words
    assert "http" not in page.replace("http://www.w3.org", ""), "nothing from elsewhere"
    with Image.open(next((run / "examination" / "pictures" / "student-000002").iterdir())) as picture:
        assert picture.size == (64, 64)
