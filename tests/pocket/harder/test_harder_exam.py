"""The harder world's examination, on systems whose pictures are known."""

import json
import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fewstep.pocket.exam_gallery import ExaminedSystem
from fewstep.pocket.harder import exam, probe
from fewstep.pocket.harder.cases import EDIT_KINDS, HarderCase
from fewstep.pocket.harder.records import read_records
from fewstep.pocket.harder.sheet import first_of_each, write_sheets
from fewstep.runtime.errors import RunError

SPEC = exam.HarderExamSpec(cases=3, diversity=1, seeds=3)
QUESTIONS = 3 * 12 + 4 * 2


@pytest.fixture(scope="module")
def reader() -> probe.Reader:
    """Untrained: what it reads is arbitrary, what is measured without it is not."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return probe.Reader().eval()


class Answers:
    """Draws an exact answer of every case, with `levels` of noise; counts what it is asked for."""

    def __init__(self, levels: float = 0):
        self.levels, self.asked = levels, 0

    def __call__(self, cases: Sequence[HarderCase], seeds: Sequence[int]) -> list[Image.Image]:
        self.asked += len(cases)
        return [self._one(case, seed) for case, seed in zip(cases, seeds, strict=True)]

    def _one(self, case: HarderCase, seed: int) -> Image.Image:
        pixels = np.asarray(case.answer_at_random(random.Random(seed))).astype(float)
        noise = np.random.default_rng(seed).normal(0, self.levels, pixels.shape)
        return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))


def line(found: dict, key: str) -> dict:
    return next(figure for figure in found["figures"] if figure["key"] == key)


@pytest.fixture(scope="module")
def examined(reader: probe.Reader, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    to = tmp_path_factory.mktemp("examination")
    systems = {"exact": ExaminedSystem(Answers(), {"m": 1}), "noisy": ExaminedSystem(Answers(8), {"m": 2})}
    return to, exam.examine_harder(systems, SPEC, reader, {"n": 7}, to)


def test_questions_are_asked_once_and_diversity_prompts_again() -> None:
    questions = SPEC.questions()
    assert len(questions) == len({(case.id, seed) for case, seed in questions}) == QUESTIONS
    again = questions[SPEC.scored_count :]
    assert {case.length for case, _ in again} == {"middle"}
    assert {case.category for case, _ in again} == set(exam.CATEGORIES)
    assert [case.prompt for case, _ in exam.HarderExamSpec(cases=1, diversity=0, seed=2).questions()] != [
        case.prompt for case, _ in exam.HarderExamSpec(cases=1, diversity=0).questions()
    ]


def test_known_systems_get_their_known_figures(examined: tuple[Path, dict]) -> None:
    to, found = examined
    assert json.loads((to / "figures.json").read_text()) == found
    assert found["reference"] == "exact"
    assert (found["reader"], found["paper"]["cases"]) == ({"n": 7}, 3)
    for task in ("t2i", "edit"):
        drawn = line(found, f"{task}.drawn")
        assert drawn["values"]["exact"]["value"] > 0.95
        assert drawn["against"]["noisy"]["high"] < -0.1
        assert line(found, f"{task}.exact")["values"]["exact"]["value"] == 60
        scored = line(found, f"{task}.drawn.score")["values"]["exact"]["value"]
        assert scored == pytest.approx(1 + 4 * drawn["values"]["exact"]["value"])
    assert line(found, "t2i.drawn")["values"]["exact"]["n"] == 2 * 4  # short prompts have no list of answers
    assert line(found, "edit.preserved")["values"]["exact"]["value"] == 60
    assert line(found, "edit.shift")["values"]["exact"]["value"] < 0.2
    assert line(found, "edit.shift")["better"] == "lower"


def test_seeds_that_differ_meet_several_answers(examined: tuple[Path, dict]) -> None:
    found = examined[1]["diversity"]
    assert (found["prompts"], found["seeds"]) == (4, 3)
    assert 0 < found["answers"]["exact"]["value"] < 1
    assert found["values"]["exact"]["value"] > 0


def test_systems_answer_the_same_questions(examined: tuple[Path, dict]) -> None:
    keys = [list(read_records(examined[0] / name)) for name in ("exact", "noisy")]
    assert keys[0] == keys[1]
    assert len(keys[0]) == SPEC.scored_count


def test_all_pictures_that_an_edit_begins_with_are_kept(examined: tuple[Path, dict]) -> None:
    rows = [json.loads(row) for row in (examined[0] / "sources" / "manifest.jsonl").read_text().splitlines()]
    assert len(rows) == 3 * (6 + 2 + 3)


def test_what_is_drawn_is_not_drawn_again(examined: tuple[Path, dict], reader: probe.Reader) -> None:
    to, found = examined
    answers = Answers()
    torn = next(iter(sorted((to / "exact" / "pictures").iterdir())))
    torn.unlink()
    systems = {"exact": ExaminedSystem(answers, {"m": 1}), "noisy": ExaminedSystem(Answers(8), {"m": 2})}
    assert exam.examine_harder(systems, SPEC, reader, {"n": 7}, to) == found
    assert answers.asked >= 1
    assert answers.asked < 4  # of several questions, one picture may be the answer


def test_another_systems_gallery_is_refused_before_anything_is_drawn(
    examined: tuple[Path, dict], reader: probe.Reader
) -> None:
    answers = Answers()
    systems = {"new": ExaminedSystem(answers, {}), "noisy": ExaminedSystem(answers, {"m": 3})}
    with pytest.raises(RunError, match="another model"):
        exam.examine_harder(systems, SPEC, reader, {}, examined[0])
    assert answers.asked == 0


def test_cases_of_one_layout_are_drawn_one_after_another(reader: probe.Reader, tmp_path: Path) -> None:
    order: list[HarderCase] = []

    def sampler(cases: Sequence[HarderCase], seeds: Sequence[int]) -> list[Image.Image]:
        order.extend(cases)
        return [case.target for case in cases]

    exam.examine_harder({"a": ExaminedSystem(sampler, {})}, SPEC, reader, {}, tmp_path)
    keys = [exam.batch_key(case) for case in order]
    assert len(order) == QUESTIONS
    assert sum(a != b for a, b in pairwise(keys)) == len(set(keys)) - 1


def test_the_sheets_have_a_row_for_each_kind(examined: tuple[Path, dict]) -> None:
    kinds = [(case.category, case.length) for case, _ in first_of_each(SPEC.questions()[: SPEC.scored_count])]
    assert len(kinds) == len(set(kinds)) == 4 * 3 + len(EDIT_KINDS)
    sheets = write_sheets(
        examined[0], SPEC.questions()[: SPEC.scored_count], {"exact": "Exact again", "noisy": "Noisy"}
    )
    assert [path.name for path in sheets] == ["sheet-t2i.png", "sheet-edit.png"]
    for path, rows, pictures in zip(sheets, (4 * 3, len(EDIT_KINDS)), (3, 6), strict=True):
        with Image.open(path) as sheet:
            assert pictures * 256 < sheet.width < (pictures + 2.2) * 256  # prompts have no column of sources
            assert rows * 256 < sheet.height < (rows + 2) * 256 + 12 * rows
