"""What a run of the harder world is handed: cases in files, and an examiner."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewstep.data.cases import Case
from fewstep.data.sources import read_source
from fewstep.pocket.exam_gallery import AskedCase
from fewstep.runtime.task import Task
from pocket_making.harder import probe, run_examiner, training_cases
from pocket_making.harder.cases import EDIT_KINDS, HarderCase
from pocket_making.harder.exam import HarderExamSpec
from pocket_making.harder.scenes import split_of


def cases_in(path: Path, task: Task) -> list[Case]:
    return read_source(str(path), task, path.parent / "cache")


def test_training_cases_are_exact_prompts_and_edits_of_train_scenes(tmp_path: Path) -> None:
    found = list(training_cases.write_training_cases(tmp_path, {"t2i": 12, "edit": 16}))
    prompts, instructions = cases_in(found[0], "t2i"), cases_in(found[1], "edit")
    assert [case.category for case in prompts[:4]] == ["landscape", "portrait", "text", "still-life"]
    assert [case.category for case in instructions] == [*EDIT_KINDS, *EDIT_KINDS]
    for task, cases in (("t2i", prompts), ("edit", instructions)):
        for index, case in enumerate(cases):
            drawn = training_cases.training_case(task, index)
            assert split_of(drawn.scene) == "train"
            assert (case.id, case.prompt, case.size((0, 0))) == (drawn.id, drawn.prompt, drawn.size)
            for path, picture in zip(case.references, drawn.references, strict=True):
                np.testing.assert_array_equal(np.asarray(Image.open(path)), np.asarray(picture))
    assert len({case.id for case in (*prompts, *instructions)}) == 28
    assert {len(case.references) for case in instructions} == {1, 2, 3}


def test_files_that_are_whole_are_kept_and_others_drawn_anew(tmp_path: Path) -> None:
    path, *_ = training_cases.write_training_cases(tmp_path, {"t2i": 4})
    before = path.stat().st_mtime_ns
    list(training_cases.write_training_cases(tmp_path, {"t2i": 4}))
    assert path.stat().st_mtime_ns == before
    list(training_cases.write_training_cases(tmp_path, {"t2i": 5}))
    assert len(cases_in(path, "t2i")) == 5


def test_an_examiner_scores_exact_answers_above_grey_ones(harder_reader: Path) -> None:
    """By how well they are drawn; the reader of this test has learnt nothing."""
    questions = HarderExamSpec(cases=3, diversity=0, seed=9).questions()
    reader, _ = probe.load_reader(harder_reader)

    def exact(cases: Sequence[AskedCase], seeds: Sequence[int]) -> list[Image.Image]:
        return [case.target for case in cases if isinstance(case, HarderCase)]

    def grey(cases: Sequence[AskedCase], seeds: Sequence[int]) -> list[Image.Image]:
        return [Image.new("RGB", case.size[::-1], (128, 128, 128)) for case in cases]

    best, worst = (run_examiner.headline(sampler, questions, reader) for sampler in (exact, grey))
    assert best["t2i_drawn"] > 0.95
    assert best["edit_drawn"] > 0.95
    assert best["preserved_psnr"] == 60  # the most that is counted
    for name in ("score", "t2i_drawn", "edit_drawn", "preserved_psnr"):
        assert best[name] > worst[name]
    halves = [best[f"{task}_{half}"] for task in ("t2i", "edit") for half in ("asked", "drawn")]
    assert best["score"] == pytest.approx(sum(halves) / 4)
