"""A suite is frozen: the same cases have the same hash everywhere, and other cases another one."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fewstep.bench import shipped
from fewstep.bench.drafts import DraftCase, SuiteHeading
from fewstep.bench.mini.cases import edit_drafts as mini_edits
from fewstep.bench.suite import Suite, seed_of
from fewstep.bench.suite_check import suite_problems
from fewstep.bench.suite_files import write_suite
from fewstep.bench.suites import open_suite, read_suite
from fewstep.pocket import suites
from fewstep.runtime.errors import CaseError, SuiteError
from tests.bench.small_suites import edits, plain, prompts, suite_of_drafts
from tests.cli.command_line import fewstep

HASHES = {  # of suites without pictures: words alone, so they are the same on every machine
    "mini-t2i": "cd559c8317ff490876c95b9da1532b71",
    "flat-field": "85c6f9b9547ca9b4bc7553e8081f1dfb",
    "tiny-text": "d57450ac3bd7885aa3caaf10f25c071c",
    "diversity": "70038a50e8752eafdf9cc4f85d5f55af",
    "pocket-t2i@60": "2c108f36cbb9ba8815a641fd6f8bce0a",
}


@settings(max_examples=100)
@given(st.text(max_size=40), st.integers(0, 10_000))
def test_a_seed_is_a_function_of_case_and_number(case: str, k: int) -> None:
    assert seed_of(case, k) == seed_of(case, k)
    assert 0 <= seed_of(case, k) < 2**31


def test_seeds_of_a_case_differ_and_are_the_same_for_every_model(tmp_path: Path) -> None:
    suites = [suite_of_drafts(tmp_path / name, prompts(), seeds=8) for name in "ab"]
    assert [q.seeds for q in suites[0].questions] == [q.seeds for q in suites[1].questions]
    assert all(len(set(q.seeds)) == 8 for q in suites[0].questions)


@pytest.mark.parametrize("name", HASHES)
def test_shipped_words_are_frozen(name: str) -> None:
    assert open_suite(name).hash == HASHES[name]


def test_the_same_cases_have_the_same_hash_wherever_they_lie(tmp_path: Path) -> None:
    one, other = (suite_of_drafts(tmp_path / name, edits(), task="edit") for name in "ab")
    assert one.hash == other.hash
    assert one.folder != other.folder
    renamed = suite_of_drafts(tmp_path / "c", edits(), task="edit", name="other", version="2")
    assert renamed.hash == one.hash


@pytest.mark.parametrize(
    "change",
    [
        lambda draft: replace(draft, prompt="make it day"),
        lambda draft: replace(draft, category="style"),
        lambda draft: replace(draft, references=(plain((0, 90, 91)),)),
        lambda draft: replace(draft, target=plain("black")),
        lambda draft: replace(draft, region=Image.new("L", (64, 64))),
        lambda draft: replace(draft, expect={"text": ["B"]}),
        lambda draft: replace(draft, size=(64, 128)),
    ],
    ids=["prompt", "category", "reference", "target", "region", "expect", "size"],
)
def test_another_case_has_another_hash(change: object, tmp_path: Path) -> None:
    first, *rest = edits()
    kept = suite_of_drafts(tmp_path / "kept", [first, *rest], task="edit")
    changed = suite_of_drafts(tmp_path / "changed", [change(first), *rest], task="edit")  # type: ignore[operator]
    assert kept.hash != changed.hash


def test_other_seeds_or_size_have_another_hash(tmp_path: Path) -> None:
    found = {
        suite_of_drafts(tmp_path / f"{seeds}-{size}", prompts(), seeds=seeds, size=size).hash
        for seeds in (1, 2)
        for size in ((64, 64), None)
    }
    assert len(found) == 4


def test_how_a_picture_is_encoded_does_not_matter(tmp_path: Path) -> None:
    suite = suite_of_drafts(tmp_path / "s", edits(), task="edit")
    for path in suite.folder.rglob("*.png"):
        with Image.open(path) as opened:
            picture = opened.copy()
        picture.save(path, compress_level=0)
    assert read_suite(suite.folder).hash == suite.hash


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    suite = suite_of_drafts(tmp_path / "s", edits(3), task="edit", license="CC0-1.0")
    question = suite.questions[2]
    assert (question.case.id, question.case.prompt, question.case.category) == ("edit-2", "make it night", "scene")
    assert question.expect["text"] == ["A"]
    with Image.open(question.case.references[0]) as reference:
        assert reference.getpixel((0, 0)) == (2, 90, 90)
    region = suite.region(question)
    assert region is not None
    assert region.is_file()
    assert suite.license == "CC0-1.0"
    assert suite.categories == {"scene": 3}


# ---- refusals


def torn(suite: Suite) -> None:
    path = suite.questions[0].case.references[0]
    path.write_bytes(path.read_bytes()[:40])


def repainted(suite: Suite) -> None:
    plain("red").save(suite.questions[0].case.references[0])


def rewritten(suite: Suite) -> None:
    path = suite.folder / "cases.jsonl"
    path.write_text(path.read_text().replace("night", "noon"))


def shortened(suite: Suite) -> None:
    path = suite.folder / "cases.jsonl"
    path.write_text(path.read_text().splitlines()[0] + "\n")


def renumbered(suite: Suite) -> None:
    path = suite.folder / "suite.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))


def lacking(suite: Suite) -> None:
    path = suite.folder / "suite.json"
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "seeds"}))


@pytest.mark.parametrize("damage", [torn, repainted, rewritten, shortened, renumbered, lacking])
def test_a_suite_that_was_touched_is_refused(damage: object, tmp_path: Path) -> None:
    suite = suite_of_drafts(tmp_path / "s", edits(), task="edit")
    damage(suite)  # type: ignore[operator]
    with pytest.raises((SuiteError, CaseError), match=str(suite.folder)):
        read_suite(suite.folder)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mini-t3i", "mini-t2i"),
        ("pocket-t2i@0", "1 to 1800"),
        ("pocket-t2i@2000", "1 to 1800"),
        ("pocket-t2i@many", "number of cases"),
        ("mini-t2i@5", "comes whole"),
        ("/", "no suite.json|no suite"),
    ],
)
def test_a_name_that_is_none_is_refused(name: str, words: str) -> None:
    with pytest.raises(SuiteError, match=words):
        open_suite(name)


@pytest.mark.parametrize("name", ["a/b", "..", "", "a b"])
def test_an_id_names_a_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="cannot name a file"):
        suite_of_drafts(tmp_path / "s", [DraftCase(name, "a house", "landscape")])
    assert not (tmp_path / "s").exists()


def test_a_doubled_id_and_an_empty_suite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="2 times"):
        suite_of_drafts(tmp_path / "s", prompts(2) + prompts(1))
    with pytest.raises(SuiteError, match="a case at least"):
        suite_of_drafts(tmp_path / "s", [])


def test_a_finished_suite_is_not_written_over(tmp_path: Path) -> None:
    suite_of_drafts(tmp_path / "s", prompts())
    with pytest.raises(SuiteError, match="frozen"):
        write_suite(SuiteHeading("small", "1", "t2i"), prompts(1), tmp_path / "s")
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "thesis.tex").write_text("precious")
    with pytest.raises(SuiteError, match=r"thesis\.tex"):
        write_suite(SuiteHeading("small", "1", "t2i"), prompts(1), tmp_path / "t")


# ---- what is shipped


def test_the_pocket_suites_have_the_papers_size_and_no_case_twice() -> None:
    drafts = list(suites.pocket_t2i(600))
    assert Counter(draft.category for draft in drafts) == {"landscape": 600, "portrait": 600, "text": 600}
    assert len({draft.prompt for draft in drafts}) == len({draft.id for draft in drafts}) == 1800
    sizes = {suite.heading.name: suite.cases for suite in shipped.shipped_suites()}
    assert (sizes["pocket-edit"], sizes["diversity"]) == (6 * 250, 50)


def test_a_cut_suite_is_mixed_and_another_suite() -> None:
    suite, more = open_suite("pocket-edit@12"), open_suite("pocket-edit@18")
    assert suite.categories == dict.fromkeys(("scene", "perceptual", "object", "text", "identity", "style"), 2)
    assert suite.name == "pocket-edit@12"
    assert suite.hash != more.hash
    assert [q.case.id for q in more.questions[:12]] == [q.case.id for q in suite.questions]


def test_pocket_expectations_are_what_the_exact_answer_shows() -> None:
    suite = open_suite("pocket-edit@18")
    for question in suite.questions:
        region = suite.region(question)
        assert region is not None
        source, target, mask = (
            np.asarray(Image.open(path).convert("RGB"), dtype=int)
            for path in (question.case.references[0], question.case.target, region)
        )
        apart = np.abs(source - target).max(-1) > 1
        assert not (apart & (mask.max(-1) == 0)).any(), question.case.id  # nothing changes where nothing may
        assert apart.any()
        if question.case.category == "text":
            assert question.expect["text"] == [question.expect["letters"]]
            assert question.expect["letters"] in question.case.prompt


def test_mini_edits_can_be_rendered_and_their_words_are_asked_for() -> None:
    drafts = list(mini_edits())
    assert Counter(draft.category for draft in drafts) == dict.fromkeys(
        ("scene", "perceptual", "object", "text", "identity", "style"), 20
    )
    assert len({draft.id for draft in drafts}) == len({(draft.prompt, id(draft)) for draft in drafts}) == 120
    for draft in drafts:
        (source,) = draft.references
        assert source.size == (512, 512)
        assert (draft.target is not None) == (draft.category == "perceptual")
        assert ("text" in draft.expect) == (draft.category == "text")
        if draft.region is not None:
            share = np.asarray(draft.region).mean() / 255
            assert 0.001 < share < 0.75, draft.id
        if draft.category == "object":
            assert draft.region is not None, draft.id


@pytest.mark.parametrize(
    "name",
    [
        "mini-t2i",
        "flat-field",
        "tiny-text",
        "diversity",
        "pocket-edit@12",
        "pocket-harder-t2i@12",
        "pocket-harder-edit@8",
    ],
)
def test_shipped_suites_pass_their_own_check(name: str) -> None:
    found = suite_problems(open_suite(name))
    assert found.problems == found.warnings == ()


def test_the_check_names_what_is_odd(tmp_path: Path) -> None:
    grey = Image.new("L", (64, 32), 100)
    odd = [
        DraftCase("a", "make it night", "scene", (plain(),), None, grey, {"letter": "A"}),
        DraftCase("b", "Make  it NIGHT", "scene", (plain(),), None, Image.new("L", (64, 64)), {"text": [""]}),
    ]
    found = suite_problems(suite_of_drafts(tmp_path / "s", odd, task="edit"))
    text = "\n".join(found.problems)
    for words in ("letter is not known", "32 x 64", "grey", "nothing may change", "none of them empty"):
        assert words in text
    assert any("b asks the same as a" in warning for warning in found.warnings)


# ---- commands


def test_the_commands_list_and_check() -> None:
    listed = fewstep("bench", "suites")
    assert listed.exit_code == 0
    for name in shipped.SUITES.names():
        assert name[:12] in listed.output
    checked = fewstep("bench", "check", "mini-t2i")
    assert checked.exit_code == 0
    assert HASHES["mini-t2i"] in checked.output
    refused = fewstep("bench", "check", "nothing")
    assert refused.exit_code == 2
    assert "mini-edit" in refused.output


def test_a_spoilt_cache_names_how_to_mend_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEWSTEP_CACHE", str(tmp_path))
    suite = open_suite("pocket-t2i@3")
    rewritten_prompts = (suite.folder / "cases.jsonl").read_text().replace("a", "b")
    (suite.folder / "cases.jsonl").write_text(rewritten_prompts)
    with pytest.raises(SuiteError, match=r"This is the cache: remove .*pocket-t2i@3"):
        open_suite("pocket-t2i@3")
    shutil.rmtree(suite.folder)
    assert open_suite("pocket-t2i@3").hash == suite.hash
    assert [path.name for path in (tmp_path / "suites").iterdir()] == [suite.folder.name]


def test_two_processes_may_write_the_same_suite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEWSTEP_CACHE", str(tmp_path))
    program = "from fewstep.bench.suites import open_suite; print(open_suite('pocket-edit@30').hash)"
    both = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = {process.communicate(timeout=300)[0] for process in both}
    assert printed == {open_suite("pocket-edit@30").hash + "\n"}
    assert len(list((tmp_path / "suites").iterdir())) == 1
