"""The harder world's reader answers in the judges' record, on galleries of its suites."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from PIL import Image

from fewstep.bench.gallery import begin_gallery
from fewstep.bench.suite import Question, Suite
from fewstep.bench.suites import copy_into_gallery, open_suite
from fewstep.bench.verdict import Verdict, read_verdicts
from fewstep.pocket.harder.judge import harder_case, is_harder_suite, judge_harder
from fewstep.runtime.errors import GalleryError
from tests.bench.small_suites import plain, prompts, suite_of_drafts
from tests.cli.command_line import fewstep, refused


def answered(suite: Suite, to: Path, answer: Callable[[Question], Image.Image]) -> Path:
    gallery = begin_gallery(to, "made up", suite.identity, {}, "generated")
    copy_into_gallery(suite, to)
    for question in suite.questions:
        case = question.case
        facts = {"k": 0, "prompt": case.prompt, "task": case.task, "category": case.category}
        gallery.add(case.id, question.seeds[0], answer(question), facts)
    return to


def exact(question: Question) -> Image.Image:
    return harder_case(question).target


def source(question: Question) -> Image.Image:
    with Image.open(question.case.references[0]) as opened:
        return opened.convert("RGB")


def scores(verdicts: list[Verdict]) -> list[float]:
    return [verdict.score for verdict in verdicts if verdict.score is not None]


def test_cases_are_the_ones_that_the_suite_was_made_of() -> None:
    for name in ("pocket-harder-t2i@8", "pocket-harder-edit@16"):
        suite = open_suite(name)
        assert is_harder_suite(suite)
        for question in suite.questions:
            case = harder_case(question)
            assert (case.id, case.prompt, case.category) == (
                question.case.id,
                question.case.prompt,
                question.case.category,
            )
            if case.task == "edit":
                with Image.open(str(question.case.target)) as held:
                    assert np.array_equal(np.asarray(held.convert("RGB")), np.asarray(case.target.convert("RGB")))
    assert not is_harder_suite(open_suite("pocket-t2i@4"))


def test_exact_answers_are_read_as_asked_and_doing_nothing_is_not_an_edit(tmp_path: Path) -> None:
    suite = open_suite("pocket-harder-edit@16")
    done = judge_harder(answered(suite, tmp_path / "done", exact))
    nothing = judge_harder(answered(suite, tmp_path / "nothing", source))
    assert len(scores(done)) == 16
    assert fmean(scores(done)) > 4.6
    assert all(verdict.sub_scores["asked"] == 1.0 for verdict in nothing)
    assert {verdict.failure_modes[0] for verdict in nothing} <= {"wrong_letters", "edit_not_done"}
    assert all(set(verdict.sub_scores) <= {"asked", "drawn"} for verdict in done)
    for verdict in nothing:
        values = dict(harder_case(next(q for q in suite.questions if q.case.id == verdict.case)).scene.named)
        named = re.findall(r"(\w+) is not ([\w-]+)", verdict.reasoning)
        assert named or "reads " in verdict.reasoning or "edit_not_done" in verdict.failure_modes
        assert all(values[name] == value for name, value in named if name != "style" or verdict.category != "style")


def test_the_command_judges_either_world_and_keeps_the_record(tmp_path: Path) -> None:
    folder = answered(open_suite("pocket-harder-t2i@8"), tmp_path / "gallery", exact)
    result = fewstep("pocket", "judge", folder)
    assert result.exit_code == 0, result.output
    assert "the reader's scores, 1 to 5" in result.output
    assert "still-life" in result.output
    held = list(read_verdicts(folder)["reader"])
    assert len(held) == 8
    assert fmean(scores(held)) > 4.6
    assert judge_harder(folder) == held


def test_pictures_of_another_size_and_other_suites_are_refused(tmp_path: Path) -> None:
    suite = open_suite("pocket-harder-t2i@4")
    large = answered(suite, tmp_path / "large", lambda question: exact(question).resize((128, 96)))
    refused(fewstep("pocket", "judge", large), "is of 128 x 96 px", "asks for 96 x 96 px", "draw it again")
    other = answered(suite_of_drafts(tmp_path / "suite", prompts(3)), tmp_path / "other", lambda question: plain())
    refused(fewstep("pocket", "judge", other), "is no pocket suite")
    refused(fewstep("pocket", "judge", tmp_path / "nothing"), "nothing")


def test_a_suite_of_another_version_is_not_judged_by_this_one() -> None:
    question = open_suite("pocket-harder-t2i@4").questions[0]
    kind, seed, index = question.case.id.rsplit("-", 2)
    renamed = replace(question, case=replace(question.case, id=f"{kind}-{seed}-{int(index) + 1}"))
    other = [renamed, *(replace(question, case=replace(question.case, category=name)) for name in ("odd", "text"))]
    other.append(replace(question, case=replace(question.case, id=f"{kind}-{seed}-0{index}")))
    for wrong in other:
        if wrong.case != question.case:
            with pytest.raises(GalleryError, match="makes another case of that name"):
                harder_case(wrong)
