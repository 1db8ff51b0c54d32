"""What must be so before a study says anything, how many runs that takes, and what a run's score is."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from rich.console import Console

from fewstep.cli.verbs.study_plan import print_forecast
from fewstep.runtime.errors import StudyError
from fewstep.study import paper, plan
from fewstep.study.begin import begin_study
from fewstep.study.folder import StudyFolder
from fewstep.study.grid import resolve_grid
from fewstep.study.intervals import Interval, crossed_interval
from fewstep.study.markdown import study_markdown
from fewstep.study.page import study_html
from fewstep.study.phrasing import setting
from fewstep.study.plan import PowerPlan, PremisePlan
from fewstep.study.power import cases_to_decide, half_width, runs_needed, runs_to_decide
from fewstep.study.premises import apart, state
from fewstep.study.results import results
from fewstep.study.scores import mean_scores
from fewstep.study.takeaways import with_premises
from tests.study.made_studies import changed

LEAST = PremisePlan.model_validate({"says": "so", "task": "t2i", "higher": {"rows": ["a"]}, "at_least": 0.5})
MOST = LEAST.model_copy(update={"at_least": None, "at_most": 4.8})


def noise(*key: object) -> float:
    return float(np.random.default_rng(crc32(repr(key).encode())).normal(0, 0.1))


def scores(**levels: float) -> Callable[[str, int, str, str, int], float]:
    """Each row at its level, with noise; `weak` is taken off the base teacher's text."""

    def score(row: str, seed: int, task: str, category: str, case: int) -> float:
        under = levels.get("weak", 0.0) if (row, category) == ("teacher:base", "text") else 0.0
        return levels.get(row, 3.5) - under + noise(row, seed, category, case)

    return score


def test_the_paper_has_the_premises_of_its_conclusions() -> None:
    """Its teacher draws text worse than portraits, and its specialised teacher is better than the base."""
    text, portrait = (paper.tables()[2].score("base teacher", (name,)) for name in ("text", "portrait"))
    assert portrait - text > 0.5


@pytest.mark.parametrize(
    ("premise", "low", "high", "word"),
    [
        (LEAST, 0.5, 0.9, "present"),
        (LEAST, 0.1, 0.4, "absent"),
        (LEAST, 0.4, 0.6, "unclear"),
        (MOST, 4.0, 4.8, "present"),
        (MOST, 4.9, 5.0, "absent"),
        (MOST, 4.7, 4.9, "unclear"),
    ],
)
def test_the_whole_interval_says_whether_it_is_so(premise: PremisePlan, low: float, high: float, word: str) -> None:
    assert state(premise, Interval((low + high) / 2, low, high, 100, (0.0,))) == word


def test_without_an_interval_nothing_is_said() -> None:
    assert state(LEAST, None) == "not examined"
    assert state(LEAST, Interval(1.0, None, None, 1, (1.0,))) == "unclear"


def test_a_failed_premise_is_never_not_reproduced(examined: Callable[..., Path]) -> None:
    """E2 is far below E5, which would be "not reproduced"; but the teacher's text is as good as its portraits."""
    found = results(examined("data-composition", scores(E2=3.0)))
    assert {each["name"]: each["state"] for each in found["premises"]} == {
        "text-is-weak": "absent",
        "room-above": "present",
    }
    assert [t["verdict"] for t in found["takeaways"]] == ["not reproduced", "premise absent", "premise absent"]
    assert found["takeaways"][0]["premises"] == ["room-above"]
    for page in (study_markdown(found, []), study_html(found, [])):
        assert "remise absent" in page
        assert "at least 0.5 below its portraits" in page


def test_where_its_premises_hold_a_study_decides(examined: Callable[..., Path]) -> None:
    found = results(examined("data-composition", scores(E2=3.0, weak=0.8)))
    assert [each["state"] for each in found["premises"]] == ["present", "present"]
    assert found["premises"][0]["found"]["value"] == pytest.approx(0.8, abs=0.05)
    assert [t["verdict"] for t in found["takeaways"]] == ["not reproduced"] * 3


def test_an_unclear_premise_takes_not_reproduced_away_and_leaves_reproduced(examined: Callable[..., Path]) -> None:
    found = results(examined("data-composition", scores(E2=3.0, weak=0.5)))
    assert found["premises"][0]["state"] == "unclear"
    assert [t["verdict"] for t in found["takeaways"]] == ["not reproduced", "undecided", "undecided"]
    assert with_premises("reproduced", []) == "reproduced"


def test_few_cases_leave_a_premise_unclear(examined: Callable[..., Path]) -> None:
    """As they leave a contrast undecided: two pictures say nothing about a world."""
    found = results(examined("data-composition", scores(E2=3.0), cases=2))
    assert [each["state"] for each in found["premises"]] == ["unclear", "unclear"]
    assert [t["verdict"] for t in found["takeaways"]] == ["undecided"] * 3


def test_premises_belong_to_the_study(study_file: Callable[..., str], tmp_path: Path) -> None:
    """Declared before the first run: other premises are another study. A study without any is described as before."""
    premise = {"says": "s", "task": "t2i", "higher": {"rows": ["even"]}, "at_most": 4.0}
    with_one = plan.validate_study(changed(("premises", {"room": premise})), "made up")
    assert "premises" not in resolve_grid(plan.validate_study(changed(), "made up")).definition()
    assert resolve_grid(with_one).definition()["premises"]["room"]["at_most"] == 4.0


def test_a_study_of_an_earlier_version_goes_on_without_premises(examined: Callable[..., Path]) -> None:
    folder = examined("data-composition", scores())
    record = StudyFolder(folder).record
    content = json.loads(record.read_text())
    del content["plan"]["premises"], content["described"]["premises"]
    record.write_text(json.dumps(content))
    study, _ = plan.load_study("data-composition")
    runs = resolve_grid(study)
    begin_study(StudyFolder(folder), runs.plan, runs.definition(), runs.moments[-1], (0, 1), {})
    assert results(folder)["premises"] == []
    record.write_text(json.dumps(content | {"plan": content["plan"] | {"premises": {}}}))
    with pytest.raises(StudyError, match="another study"):
        begin_study(StudyFolder(folder), runs.plan, runs.definition(), runs.moments[-1], (0, 1), {})


@pytest.mark.parametrize(
    ("premise", "words"),
    [
        ({"at_most": None}, "either at_least or at_most"),
        ({"at_least": 0.2}, "either at_least or at_most"),
        ({"higher": {"rows": ["odd"]}}, "names odd, which is no cell"),
        ({"higher": {"rows": []}}, "should hold at least 1"),
        ({"higher": {"rows": ["even"], "categories": []}}, "should hold at least 1"),
        ({"higher": {"rows": ["even@half"]}}, "even@half, and no run is examined there: a share is one of 0.5, 1"),
        ({"higher": {"rows": ["even@0.3"]}}, "even@0.3, and no run"),
        ({"lower": {"rows": ["teacher:../base"]}}, "not under teachers of a world: base$"),
        ({"task": "edit"}, "task edit is not examined"),
    ],
)
def test_a_premise_that_says_nothing_is_refused(premise: dict[str, Any], words: str) -> None:
    whole = {"says": "s", "task": "t2i", "higher": {"rows": ["even"]}, "at_most": 4.0} | premise
    with pytest.raises(StudyError, match=words):
        plan.validate_study(changed(("premises", {"room": whole})), "made up")


def test_a_premise_of_no_takeaway_is_refused() -> None:
    premise = {"says": "s", "task": "t2i", "higher": {"rows": ["even"]}, "at_most": 4.0, "takeaways": [7]}
    with pytest.raises(StudyError, match="names takeaway 7; there are: 1, 2, 3, 4, 5, 6"):
        resolve_grid(plan.validate_study(changed(("premises", {"room": premise})), "made up"))


def test_the_page_of_a_study_without_takeaways_has_its_premises(examined: Callable[..., Path]) -> None:
    found = results(examined("data-composition", scores(E2=3.0))) | {"takeaways": []}
    for page in (study_markdown(found, []), study_html(found, [])):
        assert "What must be so for a conclusion" in page
        assert "at least 0.5 below its portraits" in page


def test_independent_errors_add_in_squares() -> None:
    found = apart(Interval(4.0, 3.7, 4.3, 10, (4.0,)), Interval(3.0, 2.6, 3.4, 10, (3.0,)))
    assert (found.value, found.low, found.high) == pytest.approx((1.0, 0.5, 1.5))


# ---- how many runs


def test_runs_follow_from_what_is_to_be_decided() -> None:
    """0.03 at a spread of 0.05 asks for eleven runs, and then an interval is that narrow."""
    assert runs_needed(0.03, 0.05) == 11
    assert half_width(11, 0.05) <= 0.03 < half_width(10, 0.05)
    assert runs_needed(1.0, 0.01) == 2


def test_a_study_has_the_runs_that_its_power_asks_for() -> None:
    strong = plan.validate_study(changed(("power", {"smallest": 0.03, "spread": 0.05})), "made up")
    assert len(resolve_grid(strong).runs) == 2 * 11
    assert {run.seed for run in resolve_grid(strong).runs} == set(range(11))
    assert len(resolve_grid(strong, seeds=3).runs) == 2 * 3
    endless = strong.model_copy(update={"power": PowerPlan(smallest=0.001, spread=0.05)})
    with pytest.raises(StudyError, match="asks for 9,604 runs of each cell"):
        resolve_grid(endless)
    with pytest.raises(StudyError, match="smallest"):
        plan.validate_study(changed(("power", {"smallest": 0, "spread": 0.05})), "made up")


def test_the_plan_says_premises_as_they_were_written(tmp_path: Path) -> None:
    """No part of a sentence is markup, which would be left out, or a traceback."""
    premise = {"says": "[bold]text[/x] is weak", "task": "t2i", "higher": {"rows": ["even"]}, "at_most": 4.0}
    power = {"smallest": 0.03, "spread": 0.05}
    grid = resolve_grid(plan.validate_study(changed(("premises", {"room": premise}), ("power", power)), "x"), seeds=1)
    console = Console(file=StringIO(), width=200)
    print_forecast(grid, tmp_path, console)
    assert "Premise: [bold]text[/x] is weak (at most 4)." in console.file.getvalue()  # type: ignore[attr-defined]
    assert "1 run of a cell: at a spread" in console.file.getvalue()  # type: ignore[attr-defined]


def test_as_many_runs_as_told_decide() -> None:
    """The number that is told for an undecided difference, made of runs like these, takes the interval off the bar."""
    rng = np.random.default_rng(0)

    def made(runs: int) -> Interval:
        return crossed_interval([0.08 + rng.normal(0, 0.1, (runs, 1)) + rng.normal(0, 0.05, (runs, 400))])

    offsets = np.array([[-0.1], [0.0], [0.1]])
    needed = runs_to_decide(crossed_interval([0.08 + offsets + rng.normal(0, 0.05, (3, 400))]), 0.0)
    assert needed is not None
    decided = [made(needed) for _ in range(40)]
    widths = [(each.high - each.low) / 2 for each in decided if each.low is not None and each.high is not None]
    assert np.median(widths) == pytest.approx(0.08, rel=0.35)


def test_as_many_cases_as_told_decide() -> None:
    """Of a difference that differs more from case to case than from run to run."""
    rng = np.random.default_rng(0)
    offsets = np.array([[-0.01], [0.0], [0.01]])

    def made(cases: int) -> Interval:
        return crossed_interval([0.04 + offsets + rng.normal(0, 0.5, (1, cases)) * np.ones((3, 1)) for _ in range(2)])

    few = made(60)
    needed = cases_to_decide(Interval(0.04, 0.04 - 0.09, 0.04 + 0.09, 120, few.by_seed), 0.0, 2)
    assert needed is not None
    assert needed > 60
    decided = [made(needed) for _ in range(40)]
    widths = [(each.high - each.low) / 2 for each in decided if each.low is not None and each.high is not None]
    assert np.median(widths) == pytest.approx(0.04, rel=0.35)
    assert cases_to_decide(Interval(0.04, -0.1, 0.18, 120, (0.3, -0.22)), 0.0, 2) is None  # the runs differ too much


def test_what_runs_cannot_decide_has_no_number() -> None:
    wide = Interval(0.01, -0.2, 0.22, 20, (0.0100001, 0.01))  # all of it is the cases'
    assert runs_to_decide(wide, 0.0) is None
    assert runs_to_decide(Interval(0.1, -0.1, 0.3, 20, (0.1,)), 0.0) is None


# ---- a run's score


def test_a_runs_score_is_the_mean_of_its_last_examinations(examined: Callable[..., Path]) -> None:
    folder = examined("teacher-guidance", lambda row, *key: 3.0 + (row.count("@") == 0) + noise(row, *key))
    before = results(folder)["tables"][0]["rows"]
    record = StudyFolder(folder).record
    content = json.loads(record.read_text())
    content["plan"]["protocol"]["mean_of_last"] = 2
    record.write_text(json.dumps(content))
    after = {row["name"]: row["judges"]["probe"]["average"]["value"] for row in results(folder)["tables"][0]["rows"]}
    for row in before:
        if not row["name"].startswith("teacher:"):
            assert after[row["name"]] == pytest.approx(row["judges"]["probe"]["average"]["value"] - 0.5, abs=0.05)
    assert ("A run's score", "the mean of its last 2 examinations") in setting(results(folder))


def test_means_are_over_what_all_examinations_have() -> None:
    first = {"probe": {("t2i", "text"): {"a": 1.0, "b": 2.0}}, "other": {("t2i", "text"): {"a": 1.0}}}
    second = {"probe": {("t2i", "text"): {"a": 3.0}}}
    assert mean_scores([first, second]) == {"probe": {("t2i", "text"): {"a": 2.0}}}
    assert mean_scores([first, {}]) == {}
    assert mean_scores([first]) == first


def test_more_means_than_moments_are_refused() -> None:
    with pytest.raises(StudyError, match="examined 2 times"):
        plan.validate_study(changed(("protocol/mean_of_last", 3)), "made up")
    short = changed(("protocol/moments", [0.8, 0.9]), ("protocol/mean_of_last", 3))
    with pytest.raises(StudyError, match="mean_of_last is 3"):
        resolve_grid(plan.validate_study(short, "made up"))
    told = plan.validate_study(changed(("protocol/mean_of_last", 2)), "made up")
    assert told.protocol.described()["mean_of_last"] == 2
    assert "mean_of_last" not in plan.validate_study(changed(), "made up").protocol.described()
