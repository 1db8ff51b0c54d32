"""Metrics over galleries: resumed, deterministic, honest about what is missing; and the commands' exit codes."""

import json
from pathlib import Path

import pytest

from fewstep.bench import measuring
from fewstep.bench.drafts import DraftCase, SuiteHeading
from fewstep.bench.gallery import Gallery
from fewstep.bench.metrics.by_name import metrics_named
from fewstep.bench.metrics.measurements import read_metric, read_metrics
from fewstep.bench.suite import Suite
from fewstep.bench.suite_files import write_suite
from fewstep.bench.suites import read_suite
from fewstep.runtime.errors import GalleryError
from tests.bench.plain_galleries import CASES, SIDE, drawn, judged, picture, suite
from tests.cli.command_line import fewstep

__all__ = ["suite"]
FAST = ["sanity", "tone", "diversity", "latency"]


def test_measured_once_and_the_same_however_often_it_was_stopped(suite: Suite, tmp_path: Path) -> None:
    whole, stopped = (drawn(suite, tmp_path / name, picture) for name in ("whole", "stopped"))
    measuring.run_metrics(whole, metrics_named(FAST))

    class Stop(Exception):
        pass

    def stop(done: int, of: int) -> None:
        if done == 5:
            raise Stop

    with pytest.raises(Stop):
        measuring.run_metrics(stopped, metrics_named(FAST), advance=stop)
    with (stopped / "metrics" / "tone.jsonl").open("a") as file:
        file.write('{"torn')
    progress: list[int] = []
    measuring.run_metrics(stopped, metrics_named(FAST), advance=lambda done, of: progress.append(of))
    assert progress[-1] == CASES - 5
    for name in FAST:
        assert (whole / "metrics" / f"{name}.jsonl").read_bytes() == (
            stopped / "metrics" / f"{name}.jsonl"
        ).read_bytes()
    measuring.run_metrics(whole, metrics_named(FAST), advance=lambda *_: pytest.fail("measured again"))


def test_processes_change_nothing(suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (drawn(suite, tmp_path / name, picture) for name in ("one", "two"))
    measuring.run_metrics(one, metrics_named(["sanity"]))
    monkeypatch.setattr(measuring, "WORTH_POOLING", 1)
    measuring.run_metrics(two, metrics_named(["sanity"]), workers=2)
    assert (one / "metrics/sanity.jsonl").read_bytes() == (two / "metrics/sanity.jsonl").read_bytes()


def test_a_picture_drawn_again_is_measured_again_and_its_siblings_diversity(suite: Suite, tmp_path: Path) -> None:
    folder = drawn(suite, tmp_path / "g", picture)
    before = measuring.run_metrics(folder, metrics_named(FAST))
    question = suite.questions[3]
    Gallery(folder).add(question.case.id, question.seeds[0], picture(99), {"task": "t2i", "category": "sky"})
    after = measuring.run_metrics(folder, metrics_named(FAST))
    changed = {n: [b.case for b, a in zip(before[n], after[n], strict=True) if a.key != b.key] for n in FAST}
    assert changed == {"sanity": ["c3"], "tone": ["c3"], "latency": ["c3"], "diversity": ["c3", "c3"]}


def test_what_is_not_there_is_no_number(suite: Suite, tmp_path: Path) -> None:
    folder = drawn(suite, tmp_path / "g", picture, skip={2})
    torn = Gallery(folder).path("c4", suite.questions[4].seeds[0])
    torn.write_bytes(b"\x89PNG torn")
    found = measuring.run_metrics(folder, metrics_named(["sanity", "tone", "latency", "preserve"]))
    by_case = {(each.case, each.seed): each for each in found["tone"]}
    failed = by_case["c2", suite.questions[2].seeds[0]]
    assert (failed.values, "out of memory" in (failed.skipped or "")) == ({}, True)
    assert sum(each.values["failed"] for each in found["sanity"]) == 2
    assert sum(each.values["unreadable"] for each in found["sanity"]) == 1
    assert all("says nothing of time" in (each.skipped or "") for each in found["latency"])
    assert all(each.skipped for each in found["preserve"])
    assert set(read_metrics(folder)) == {"sanity", "tone", "latency", "preserve"}


def test_a_line_of_another_case_is_named(suite: Suite, tmp_path: Path) -> None:
    folder = drawn(suite, tmp_path / "g", picture)
    Gallery(folder).add("foreign", 7, picture(0), {})
    with pytest.raises(GalleryError, match="foreign"):
        measuring.run_metrics(folder, metrics_named(["sanity"]))


def test_a_torn_record_file_is_named(suite: Suite, tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "tone.jsonl").write_text('{"case": "a", "values": 3}\n')
    with pytest.raises(GalleryError, match=r"tone\.jsonl"):
        read_metric(tmp_path, "tone")


# ---- commands


def test_measure_against_prints_and_keeps_pairs(suite: Suite, tmp_path: Path) -> None:
    student = drawn(suite, tmp_path / "student", lambda i, k: picture(i, k, noise=3))
    teacher = drawn(suite, tmp_path / "teacher", lambda i, k: picture(i, k, noise=1))
    done = fewstep("bench", "measure", student, "--against", teacher, "--metrics", "flat_noise,tone")
    assert done.exit_code == 0, done.output
    figures = json.loads((student / "metrics" / "against-teacher.json").read_text())
    luma = figures["metrics"]["flat_noise"]["luma"]
    assert (luma["compared"], luma["against"]["clusters"]) == ("difference", CASES)
    assert 0.9 < luma["against"]["low"] < luma["against"]["high"] < 1.7  # 2 levels in each channel, 0.67 of it in luma


def test_exit_codes_are_the_answer(suite: Suite, tmp_path: Path) -> None:
    good = judged(suite, drawn(suite, tmp_path / "good", picture), lambda i: 4.0 + 0.01 * i)
    bad = judged(suite, drawn(suite, tmp_path / "bad", picture), lambda i: 3.0 + 0.02 * i)
    report = tmp_path / "found.json"
    assert fewstep("bench", "compare", good, bad, "--margin", "0.05", "--json", report).exit_code == 0
    assert fewstep("bench", "compare", bad, good, "--margin", "0.05").exit_code == 2
    assert fewstep("bench", "compare", good, good, "--margin", "0.05").exit_code == 1
    assert fewstep("bench", "compare", good, good, "--margin", "0.05", "--non-inferior").exit_code == 0
    assert fewstep("bench", "compare", bad, good, "--margin", "0.05", "--non-inferior").exit_code == 2
    assert fewstep("bench", "compare", good, bad, "--margin", "2").exit_code == 1
    assert json.loads(report.read_text())["outcome"] == "better"


def test_compare_by_a_metric(suite: Suite, tmp_path: Path) -> None:
    noisy = drawn(suite, tmp_path / "noisy", lambda i, k: picture(i, k, noise=3))
    clean = drawn(suite, tmp_path / "clean", lambda i, k: picture(i, k, noise=1))
    assert fewstep("bench", "compare", clean, noisy, "--metric", "flat_noise").exit_code == 3  # not yet measured
    for each in (noisy, clean):
        fewstep("bench", "measure", each, "--metrics", "flat_noise,tone")
    assert fewstep("bench", "compare", clean, noisy, "--metric", "flat_noise", "--margin", "0.5").exit_code == 0
    assert fewstep("bench", "compare", noisy, clean, "--metric", "flat_noise.chroma").exit_code == 2
    neither = fewstep("bench", "compare", noisy, clean, "--metric", "tone")
    assert (neither.exit_code, "--against" in neither.output) == (3, True)


def test_nothing_but_an_answer_exits_below_3(suite: Suite, tmp_path: Path) -> None:
    good = judged(suite, drawn(suite, tmp_path / "good", picture), lambda i: 4.0)
    patchy = judged(suite, drawn(suite, tmp_path / "patchy", picture), lambda i: None if i == 0 else 4.0)
    unjudged = drawn(suite, tmp_path / "unjudged", picture)
    other_folder = tmp_path / "other-suite"
    write_suite(
        SuiteHeading("plain", "2", "t2i", 2, (SIDE, SIDE), "CC0-1.0"), [DraftCase("c0", "x", "wall")], other_folder
    )
    other = judged(
        read_suite(other_folder), drawn(read_suite(other_folder), tmp_path / "other", picture), lambda i: 4.0
    )
    for words, expected in (
        (("compare", good, other), "answers suite"),
        (("compare", good, patchy), "91.7 %"),
        (("compare", good, unjudged), "no judge"),
        (("compare", good, tmp_path / "nowhere"), "no gallery"),
        (("compare", good), "Missing argument"),
        (("compare", good, good, "--margni", "1"), "margni"),
        (("compare", good, good, "--margin", "-1"), "margin"),
        (("compare", good, good, "--metric", "flat_nois"), "flat_noise"),
        (("compare", good, good, "--metric", "flat_noise.lumen"), "lumen"),
        (("compare", good, good, "--judge", "nobody"), "nobody"),
    ):
        result = fewstep("bench", *words)
        assert result.exit_code == 3, (words, result.output)
        assert expected in " ".join(result.output.split()), (words, result.output)


def test_a_crash_is_no_answer(suite: Suite, tmp_path: Path) -> None:
    good = judged(suite, drawn(suite, tmp_path / "good", picture), lambda i: 4.0)
    (good / "suite" / "suite.json").write_bytes(b"\xff\xfe not text")
    assert fewstep("bench", "compare", good, good).exit_code == 3


def test_rank_prints_withheld_ranks_and_writes_figures(suite: Suite, tmp_path: Path) -> None:
    folders = [
        judged(suite, drawn(suite, tmp_path / name, picture), score)
        for name, score in (
            ("first", lambda i: 4.0 + 0.01 * i),
            ("second", lambda i: 3.0),
            ("patchy", lambda i: None if i < 2 else 4.5),
        )
    ]
    report = tmp_path / "ranks.json"
    done = fewstep("bench", "rank", *folders, "--json", report)
    assert done.exit_code == 0, done.output
    output = " ".join(done.output.split())
    assert "patchy: rank withheld, probe scored 20 of 24" in output
    found = {each["system"]: each for each in json.loads(report.read_text())["standings"]}
    assert {name: each["rank"] for name, each in found.items()} == {"first": 1, "second": 2, "patchy": None}
    assert found["patchy"]["coverage"]["probe"]["worst"] < 4.0
    assert found["first"]["p_rank"][0] == 1


def test_rank_names_the_judges_it_leaves_out(suite: Suite, tmp_path: Path) -> None:
    folders = [judged(suite, drawn(suite, tmp_path / name, picture), lambda i: 4.0) for name in ("one", "two")]
    verdicts = folders[0] / "verdicts"
    text = (verdicts / "probe.jsonl").read_text().replace('"judge": "probe"', '"judge": "other"')
    (verdicts / "other.jsonl").write_text(text)
    output = " ".join(fewstep("bench", "rank", *folders).output.split())
    assert "Left out: judge other" in output
    assert "Left out" not in fewstep("bench", "rank", *folders, "--judge", "probe").output


def test_unknown_metrics_are_refused_before_work(suite: Suite, tmp_path: Path) -> None:
    folder = drawn(suite, tmp_path / "g", picture)
    done = fewstep("bench", "measure", folder, "--metrics", "tonne")
    assert (done.exit_code, "did you mean tone" in " ".join(done.output.split())) == (2, True)
    assert not (folder / "metrics").exists()
