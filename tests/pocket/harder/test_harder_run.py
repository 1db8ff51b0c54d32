"""A run of the harder world: its cases in files, its examiner, and the command that makes a student."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.cli.verbs.harder_student import HarderStudent
from fewstep.data.sources import read_source
from fewstep.pocket.asked_case import AskedCase
from fewstep.pocket.build import TEACHER
from fewstep.pocket.harder import case_source, probe, run_examiner, systems
from fewstep.pocket.harder.cases import EDIT_KINDS, HarderCase
from fewstep.pocket.harder.exam import HarderExamSpec
from fewstep.pocket.harder.scenes import split_of
from fewstep.run.best_by import FIGURES
from tests.cli.command_line import fewstep, refused


def test_training_cases_are_exact_prompts_and_edits_of_train_scenes(tmp_path: Path) -> None:
    prompts, instructions = (
        read_source("pocket-harder:t2i:12", "t2i", tmp_path),
        read_source("pocket-harder:edit:16", "edit", tmp_path),
    )
    assert [case.category for case in prompts[:4]] == ["landscape", "portrait", "text", "still-life"]
    assert [case.category for case in instructions] == [*EDIT_KINDS, *EDIT_KINDS]
    for task, cases in (("t2i", prompts), ("edit", instructions)):
        for index, case in enumerate(cases):
            drawn = case_source.training_case_of_harder(task, index)
            assert split_of(drawn.scene) == "train"
            assert (case.id, case.prompt, case.size((0, 0))) == (drawn.id, drawn.prompt, drawn.size)
            for path, picture in zip(case.references, drawn.references, strict=True):
                np.testing.assert_array_equal(np.asarray(Image.open(path)), np.asarray(picture))
    assert len({case.id for case in (*prompts, *instructions)}) == 28
    assert {len(case.references) for case in instructions} == {1, 2, 3}


def test_cases_of_another_version_of_the_world_are_drawn_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = case_source.harder_file("pocket-harder:t2i:5", "t2i", tmp_path)
    before = path.stat().st_mtime_ns
    assert case_source.harder_file("pocket-harder:t2i:5", None, tmp_path) == path
    assert path.stat().st_mtime_ns == before
    monkeypatch.setattr(case_source, "SEED", 3)
    other = case_source.harder_file("pocket-harder:t2i:5", "t2i", tmp_path)
    assert other != path
    assert [case.id for case in read_source(str(other), "t2i", tmp_path / "cache")] == [
        case_source.training_case_of_harder("t2i", k).id for k in range(5)
    ]


def test_an_examiner_scores_exact_answers_above_grey_ones(harder_reader: Path) -> None:
    """By how well they are drawn; the reader of this test has learnt nothing."""
    questions = HarderExamSpec(cases=3, diversity=0, seed=9).questions()
    reader, _ = probe.load_reader(harder_reader)

    def exact(cases: Sequence[AskedCase], seeds: Sequence[int]) -> list[Image.Image]:
        return [case.target for case in cases if isinstance(case, HarderCase)]

    def grey(cases: Sequence[AskedCase], seeds: Sequence[int]) -> list[Image.Image]:
        return [Image.new("RGB", case.size[::-1], (128, 128, 128)) for case in cases]

    best, worst = (run_examiner.headline(sampler, questions, reader) for sampler in (exact, grey))
    assert tuple(best) == FIGURES["pocket-harder"]  # which can choose a checkpoint
    assert best["t2i_drawn"] > 0.95
    assert best["edit_drawn"] > 0.95
    assert best["preserved_psnr"] == 60  # the most that is counted
    for name in ("score", "t2i_drawn", "edit_drawn", "preserved_psnr"):
        assert best[name] > worst[name]
    halves = [best[f"{task}_{half}"] for task in ("t2i", "edit") for half in ("asked", "drawn")]
    assert best["score"] == pytest.approx(sum(halves) / 4)


def short_run(teacher: Path, reader: Path, out: Path) -> list[str | Path]:
    asked: list[str | Path] = ["pocket", "student", "--teacher", teacher, "--reader", reader, "--out", out]
    asked += ["--prompts", "4", "--edits", "8", "--cases", "1", "--diversity", "0"]
    for setting in ("iterations=2", "batch=2", "examine_every_iterations=2", "sample_every_iterations=0"):
        asked += ["--set", f"run.{setting}"]
    return asked


def test_a_student_is_made_and_examined_by_one_command(
    harder_teacher: Path, harder_reader: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is examined with the reader on its way, and the student beside its teacher at the end."""
    monkeypatch.setattr(QwenImage21, "default_steps", 2)
    monkeypatch.setattr(run_examiner, "ASKED", HarderExamSpec(cases=3, diversity=0, seed=9))
    out = tmp_path / "out"
    asked = short_run(harder_teacher, harder_reader, out)
    told = fewstep(*asked)
    assert told.exit_code == 0, told.output
    assert "pictures, records and figures, with all intervals, in" in told.output
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    examined = [row for row in rows if row["phase"] == "examine"]
    assert [row["iteration"] for row in examined] == [0, 2]
    assert {"score", "t2i_asked", "edit_drawn"} <= examined[0].keys()
    found = json.loads((out / "examination" / "figures.json").read_text())
    assert list(found["systems"]) == [systems.TEACHER, systems.TEACHER_FEW, systems.STUDENT, systems.CEILING]
    page = (out / "report.html").read_text()
    for title in (
        "Still lives",
        "Edits that take something from a second picture",
        "of the attributes right (the teacher",
    ):
        assert title in page
    drawn = {path: path.stat().st_mtime_ns for path in out.rglob("*.png") if path.parent.name == "pictures"}
    again = fewstep(*asked)
    assert again.exit_code == 0, again.output
    assert len((out / "metrics.jsonl").read_text().splitlines()) == len(rows)
    assert {path: path.stat().st_mtime_ns for path in drawn} == drawn


def test_a_recipe_names_folders_as_they_are_and_takes_settings() -> None:
    folder = Path("it's: 7, or #8")
    recipe = HarderStudent(str(folder), None, {"t2i": 4, "edit": 6}, ("run.batch=4",), 1, 0).recipe()
    assert (recipe.model, recipe.run.batch, recipe.teachers.named) == (str(folder), 4, {})
    sources = [plan.source for plan in (*recipe.data.t2i, *recipe.data.edit)]
    assert sources == ["pocket-harder:t2i:4", "pocket-harder:edit:6"]
    assert HarderStudent(None, None, {"t2i": 4, "edit": 6}, (), 1, 0).recipe().model == "pocket-harder"


def test_what_no_student_can_be_made_of_is_refused(harder_teacher: Path, harder_reader: Path, tmp_path: Path) -> None:
    out, nothing = tmp_path / "out", tmp_path / "nothing"
    refused(fewstep(*short_run(nothing, harder_reader, out)), "no pipeline folder there")
    refused(fewstep(*short_run(harder_teacher, nothing, out)), "no reader of the harder world")
    refused(fewstep(*short_run(TEACHER, harder_reader, out)), "its words are not those of the harder world")
    refused(fewstep(*short_run(harder_teacher, harder_reader, out), "--set", "run.iteration=3"), "iterations")
    assert not out.exists()
