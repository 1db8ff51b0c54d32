"""The pocket probe answers in the judges' record."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from fewstep.bench.gallery import Gallery, begin_gallery
from fewstep.bench.suite import Question, Suite
from fewstep.bench.suites import copy_into_gallery, open_suite
from fewstep.bench.verdict import Verdict, read_verdicts
from fewstep.pocket.cases import edit_case, t2i_case
from fewstep.pocket.judge import judge, pocket_case
from fewstep.pocket.render import render
from fewstep.runtime.errors import GalleryError
from tests.bench.small_suites import plain, prompts, suite_of_drafts
from tests.cli.command_line import fewstep


def answered(suite: Suite, to: Path, answer: Callable[[Question], Image.Image | None]) -> Path:
    gallery = begin_gallery(to, "made up", suite.identity, {}, "generated")
    copy_into_gallery(suite, to)
    for question in suite.questions:
        for k, seed in enumerate(question.seeds):
            picture = answer(question)
            case = question.case
            facts = {"k": k, "prompt": case.prompt, "task": case.task, "category": case.category}
            if picture is None:
                gallery.fail(case.id, seed, "no reason", facts)
            else:
                gallery.add(case.id, seed, picture, facts)
    return to


def exact(suite: Suite) -> Callable[[Question], Image.Image]:
    def answer(question: Question) -> Image.Image:
        case = pocket_case(suite, question)
        return render(case.scene) if case.task == "t2i" else case.target

    return answer


def source(question: Question) -> Image.Image:
    with Image.open(question.case.references[0]) as opened:
        return opened.convert("RGB")


def mean(verdicts: list[Verdict], category: str | None = None) -> float:
    scores = [v.score for v in verdicts if category in (None, v.category)]
    return float(np.mean([score for score in scores if score is not None]))


def test_a_suite_holds_all_that_the_world_knew() -> None:
    for name, made in (("pocket-t2i@12", t2i_case), ("pocket-edit@12", edit_case)):
        suite = open_suite(name)
        for question in suite.questions:
            kind, seed, index = question.case.id.split("-")[-3:]
            known, restored = made(int(seed), int(index), "heldout", kind), pocket_case(suite, question)
            assert (restored.scene, restored.attributes, restored.letters, restored.changed) == (
                known.scene,
                known.attributes,
                known.letters,
                known.changed,
            )
            if known.task == "edit":
                assert restored.target.tobytes() == known.target.tobytes()
                assert restored.region is not None
                assert np.array_equal(restored.region, known.region)


def test_the_exact_answer_is_worth_five_and_doing_nothing_one(tmp_path: Path) -> None:
    suite = open_suite("pocket-edit@60")
    done = judge(answered(suite, tmp_path / "done", exact(suite)))
    nothing = judge(answered(suite, tmp_path / "nothing", source))
    assert mean(done) > 4.7
    assert mean(nothing) < 1.6
    for category in suite.categories:
        assert mean(done, category) - mean(nothing, category) > 2, category
    assert {mode for verdict in nothing for mode in verdict.failure_modes} >= {"edit_not_done"}


def test_scores_fall_with_what_is_wrong(tmp_path: Path) -> None:
    suite = open_suite("pocket-t2i@60")
    right = judge(answered(suite, tmp_path / "right", exact(suite)))
    blurred = judge(answered(suite, tmp_path / "b", lambda q: exact(suite)(q).filter(ImageFilter.GaussianBlur(5))))
    grey = judge(answered(suite, tmp_path / "grey", lambda q: plain("grey")))
    assert mean(right) > 4.9 > mean(blurred) > mean(grey)


def test_a_wrong_word_is_read_and_named(tmp_path: Path) -> None:
    suite = open_suite("pocket-t2i@3")

    def misspelt(question: Question) -> Image.Image:
        case = pocket_case(suite, question)
        return render(replace(case.scene, letters="HAT"[: len(case.letters)]) if case.letters else case.scene)  # type: ignore[arg-type]

    verdicts = judge(answered(suite, tmp_path / "g", misspelt))
    (sign,) = [verdict for verdict in verdicts if verdict.category == "text"]
    assert "wrong_letters" in sign.failure_modes
    assert "reads 'HA" in sign.reasoning
    assert sign.score is not None
    assert sign.score < 5


def test_the_record_is_a_judges(tmp_path: Path) -> None:
    suite = open_suite("pocket-t2i@6")
    first = suite.questions[0].case.id
    folder = answered(suite, tmp_path / "g", lambda q: None if q.case.id == first else exact(suite)(q))
    verdicts = judge(folder)
    assert read_verdicts(folder) == {"probe": verdicts}
    assert len(verdicts) == 5  # a missing picture has no verdict; the manifest states why
    verdict = verdicts[0]
    assert (verdict.judge, verdict.protocol, verdict.status) == ("probe", "probe-v1", "ok")
    assert len({v.key for v in verdicts}) == 5
    before = (folder / "verdicts" / "probe.jsonl").read_bytes()
    moved = folder.rename(tmp_path / "moved")
    judge(moved)
    assert (moved / "verdicts" / "probe.jsonl").read_bytes() == before


def test_other_suites_are_refused(tmp_path: Path) -> None:
    suite = suite_of_drafts(tmp_path / "s", prompts())
    with pytest.raises(GalleryError, match="no pocket suite"):
        judge(answered(suite, tmp_path / "g", lambda q: plain()))
    pocket = open_suite("pocket-t2i@2")
    empty = begin_gallery(tmp_path / "e", "none", pocket.identity, {}, "generated")
    copy_into_gallery(pocket, empty.folder)
    with pytest.raises(GalleryError, match="no pictures"):
        judge(empty.folder)
    Gallery(empty.folder).add("foreign", 1, plain(), {})
    with pytest.raises(GalleryError, match="foreign"):
        judge(empty.folder)
    assert fewstep("pocket", "judge", tmp_path / "nothing").exit_code == 2


def test_from_the_teacher_to_scores_in_a_minute(tmp_path: Path) -> None:
    """End to end: 24 pictures of the shipped teacher in 8 steps, judged by the probe."""
    begun_s = time.process_time()
    words = ("generate", "pocket", "--suite", "pocket-t2i@24", "--to", tmp_path / "g", "--steps", "8", "--batch", "24")
    assert fewstep(*words).exit_code == 0
    result = fewstep("pocket", "judge", tmp_path / "g")
    assert result.exit_code == 0
    assert "landscape" in result.output
    verdicts = read_verdicts(tmp_path / "g")["probe"]
    assert len(verdicts) == 24
    assert mean(verdicts) > 3
    assert time.process_time() - begun_s < 60  # of processor time: the machine may be busy with other things
