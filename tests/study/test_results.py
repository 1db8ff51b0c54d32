"""The paper's tables as data, the intervals, and what is concluded from them."""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewstep.runtime.errors import JudgeError
from fewstep.study import paper, plan
from fewstep.study.begin import begin_study
from fewstep.study.folder import (
    StudyFolder,
    open_study,
)
from fewstep.study.grid import resolve_grid
from fewstep.study.intervals import Interval, crossed_interval
from fewstep.study.phrasing import claim_words, warnings
from fewstep.study.results import results
from fewstep.study.takeaways import (
    Claim,
    claim_verdict,
    combined_verdict,
    in_paper,
    takeaways,
)

MISPRINT = {"row": "specialised teacher", "judge": "B", "printed": 4.26, "cells": 4.23}


# ---- the paper's tables


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_averages_and_ranks_follow_from_the_cells(number: int) -> None:
    """Every printed average within rounding, the listed misprint aside; every printed rank exactly, by the rule."""
    table = paper.tables()[number]
    wrong = []
    for name, row in table.rows.items():
        for judge, printed in zip(paper.JUDGES, row.average, strict=True):
            own = fmean(row.cells[judge])
            assert len(row.cells[judge]) == len(table.columns)
            if abs(own - printed) > 0.005 + 1e-9:
                wrong.append({"row": name, "judge": judge, "printed": printed, "cells": round(own, 2)})
    assert wrong == list(table.misprints)
    averages = {name: {j: fmean(row.cells[j]) for j in paper.JUDGES} for name, row in table.rows.items()}
    assert paper.paper_ranks(averages) == {name: row.rank for name, row in table.rows.items()}


def test_the_one_misprint_is_in_both_tables_that_print_the_row() -> None:
    assert [list(table.misprints) for table in paper.tables().values()] == [[], [MISPRINT], [], [MISPRINT]]
    assert sum(len(table.rows) for table in paper.tables().values()) == 18


def test_rows_that_are_equal_share_a_rank() -> None:
    assert paper.paper_ranks({"a": {"x": 2.0}, "b": {"x": 3.0}, "c": {"x": 3.0}}) == {"a": 3, "b": 1, "c": 1}


def test_the_paper_supports_its_own_takeaways() -> None:
    """Each claim, by the paper's own numbers where it prints both rows: our contrasts are those of its words."""
    assert [takeaway.number for takeaway in takeaways()] == [1, 2, 3, 4, 5, 6]
    printed = 0
    for takeaway in takeaways():
        study, _ = plan.load_study(takeaway.study)
        for claim in takeaway.claims:
            value = in_paper(claim, study)
            if value is not None:
                printed += 1
                assert value > (0 if claim.kind == "more" else -claim.margin), claim.says
    assert printed == 10


# ---- intervals


def test_more_cases_and_more_runs_narrow_an_interval() -> None:
    rng = np.random.default_rng(0)

    def width(runs: int, cases: int) -> float:
        luck, hardness = rng.normal(0, 0.1, (runs, 1)), rng.normal(0, 1, (1, cases))
        found = crossed_interval([luck + hardness + rng.normal(0, 0.1, (runs, cases))])
        assert found.low is not None and found.high is not None  # noqa: PT018
        return found.high - found.low

    assert width(3, 400) < width(3, 25)
    assert width(20, 400) < width(2, 400) * 1.2


def test_intervals_cover_the_truth_where_runs_and_cases_both_vary() -> None:
    """Mean 0 from 3 runs of 40 cases, run luck as large as what the cases leave: near 95 %, with no more than the
    small sample of runs accounts for."""
    rng, hits = np.random.default_rng(1), 0
    for _ in range(100):
        d = rng.normal(0, 0.15, (3, 1)) + rng.normal(0, 1, (1, 40)) + rng.normal(0, 0.5, (3, 40))
        found = crossed_interval([d])
        hits += found.low <= 0 <= found.high  # type: ignore[operator]
    assert hits / 100 > 0.9


def test_two_runs_are_not_taken_for_many() -> None:
    """Cases all alike, runs apart by 2: the interval reaches beyond the two runs."""
    found = crossed_interval([np.array([[0.0] * 30, [2.0] * 30])])
    assert (found.value, found.by_seed) == (1.0, (0.0, 2.0))
    assert found.low == pytest.approx(1 - 2**0.5)
    assert found.high == pytest.approx(1 + 2**0.5)


@settings(max_examples=30)
@given(st.integers(1, 4), st.lists(st.integers(2, 12), min_size=1, max_size=3), st.integers(0, 2**16))
def test_an_average_is_that_of_categories_and_inside_its_interval(runs: int, sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = [rng.uniform(1, 5, (runs, n)) for n in sizes]
    found = crossed_interval(groups)
    assert found.value == pytest.approx(fmean(float(g.mean()) for g in groups))
    assert found.value == pytest.approx(fmean(found.by_seed))
    assert found.low <= found.value + 1e-9  # type: ignore[operator]
    assert found.high >= found.value - 1e-9  # type: ignore[operator]
    assert found.cases == sum(sizes)
    assert crossed_interval(groups) == found


def test_a_single_case_has_no_interval() -> None:
    assert crossed_interval([np.array([[3.0]])]) == Interval(3.0, None, None, 1, (3.0,))


# ---- from an interval to a word

MORE = Claim(says="", task="t2i", higher=("a",), lower=("b",), kind="more", margin=0.05)
NOT_LESS = MORE.model_copy(update={"kind": "not-less", "margin": 0.1})


@pytest.mark.parametrize(
    ("claim", "low", "high", "by_seed", "word"),
    [
        (MORE, 0.01, 0.3, (0.1, 0.2), "reproduced"),
        (MORE, 0.01, 0.3, (-0.1, 0.4), "undecided"),  # one run shows the opposite
        (MORE, -0.1, 0.3, (0.1, 0.1), "undecided"),
        (MORE, -0.3, -0.1, (-0.2, -0.2), "not reproduced"),
        (MORE, -0.02, 0.04, (0.01, 0.01), "not reproduced"),  # whatever there is, is smaller than counts
        (NOT_LESS, -0.09, 0.3, (0.1, 0.1), "reproduced"),
        (NOT_LESS, -0.2, 0.1, (-0.05, -0.05), "undecided"),
        (NOT_LESS, -0.4, -0.2, (-0.3, -0.3), "not reproduced"),
    ],
)
def test_the_word_follows_from_the_interval(
    claim: Claim, low: float, high: float, by_seed: tuple[float, ...], word: str
) -> None:
    assert claim_verdict(claim, Interval(fmean(by_seed), low, high, 40, by_seed)) == word


@pytest.mark.parametrize(
    ("claim", "low", "high", "word"),
    [
        (MORE, 0.01, 0.03, "reproduced"),
        (MORE, -0.05, -0.01, "not reproduced"),
        (MORE, -0.02, 0.04, "undecided"),  # it may be larger than it looks
        (NOT_LESS, -0.02, 0.02, "undecided"),
        (NOT_LESS, 0.01, 0.02, "undecided"),
        (NOT_LESS, -0.4, -0.2, "not reproduced"),
    ],
)
def test_a_ceiling_hides_how_much_and_not_which(claim: Claim, low: float, high: float, word: str) -> None:
    middle = (low + high) / 2
    assert claim_verdict(claim, Interval(middle, low, high, 40, (middle, middle)), pressed=True) == word


def test_no_interval_no_word() -> None:
    assert claim_verdict(MORE, None) == "undecided"
    assert claim_verdict(MORE, Interval(1.0, None, None, 1, (1.0,))) == "undecided"


def test_a_takeaway_stands_with_all_its_claims() -> None:
    assert combined_verdict(["reproduced", "reproduced"]) == "reproduced"
    assert combined_verdict(["reproduced", "undecided"]) == "undecided"
    assert combined_verdict(["undecided", "not reproduced"]) == "not reproduced"


# ---- whole studies of made-up scores


def _noise(*key: object) -> float:
    return float(np.random.default_rng(crc32(repr(key).encode())).normal(0, 0.1))


BASE_TEACHER = {"landscape": 4.3, "portrait": 4.2, "text": 3.1}  # weak at text, as the paper's


def like_the_paper(row: str, seed: int, task: str, category: str, case: int) -> float:
    """Table 1's means, with noise of case, run and both."""
    printed = paper.tables()[1]
    base = printed.score(row, (category,)) if row in printed.rows else BASE_TEACHER[category]
    return base + 5 * _noise(category, case) + 0.1 * _noise(row, seed) + _noise(row, seed, category, case)


def verdicts_of(folder: Path) -> dict[int, str]:
    return {takeaway["number"]: takeaway["verdict"] for takeaway in results(folder)["takeaways"]}


def test_scores_like_the_papers_reproduce_it(examined: Callable[..., Path]) -> None:
    folder = examined("data-composition", like_the_paper)
    found = results(folder)
    assert verdicts_of(folder) == {1: "reproduced", 2: "reproduced", 3: "reproduced"}
    (table,) = found["tables"]
    ranks = {row["name"]: row["rank"] for row in table["rows"]}
    assert ranks == {"E1": 3, "E2": 1, "E3": 5, "E4": 2, "E5": 4, "teacher:base": None}
    assert table["rows"][0]["paper"]["cells"]["landscape"] == [3.53, 4.30]
    assert found["missing"] == []


def test_the_opposite_of_the_paper_is_not_reproduced(examined: Callable[..., Path]) -> None:
    def upside_down(row: str, *rest: object) -> float:
        told = like_the_paper(row, *rest)  # type: ignore[arg-type]
        return told if row == "teacher:base" else 7 - told

    assert set(verdicts_of(examined("data-composition", upside_down)).values()) == {"not reproduced"}


def test_one_run_against_the_other_is_undecided(examined: Callable[..., Path]) -> None:
    """E2 is far above E5 in one run, and a little in the other."""

    def torn(row: str, seed: int, task: str, category: str, case: int) -> float:
        return 3.0 + (0.4 if seed == 0 else 0.02) * (row == "E2") + 0.01 * _noise(row, seed, category, case)

    claim = results(examined("data-composition", torn))["takeaways"][0]
    assert claim["verdict"] == "undecided"
    needed = claim["claims"][0]["runs_to_decide"]
    assert needed > 2
    assert f"{needed} runs of a cell would decide it" in claim_words(claim["claims"][0])


def test_at_the_ceiling_nothing_is_decided(examined: Callable[..., Path]) -> None:
    found = results(examined("data-composition", lambda *key: 5.0))
    assert {claim["verdict"] for takeaway in found["takeaways"] for claim in takeaway["claims"]} == {"undecided"}
    assert {takeaway["verdict"] for takeaway in found["takeaways"]} == {"premise absent"}
    assert "too easy" in found["takeaways"][0]["claims"][0]["why"]


def test_what_shows_through_the_ceiling_counts(examined: Callable[..., Path]) -> None:
    def pressed(row: str, seed: int, task: str, category: str, case: int) -> float:
        return 4.95 - 0.04 * (row == "E2") + 0.01 * _noise(row, seed, category, case)

    first, second, third = results(examined("data-composition", pressed))["takeaways"]
    assert {claim["verdict"] for claim in first["claims"]} == {"not reproduced"}  # E2 is below E5
    assert [claim["verdict"] for claim in second["claims"]] == ["undecided", "undecided"]
    assert "too easy" in second["claims"][0]["why"]
    assert first["claims"][0]["why"] is None
    assert [claim["verdict"] for claim in third["claims"]] == ["not reproduced", "undecided"]


@pytest.mark.parametrize(("cases", "noise", "word"), [(19, 0.1, "fewer than 20 cases"), (40, 0.0, "no width")])
def test_too_few_or_too_equal_cases_decide_nothing(
    cases: int, noise: float, word: str, examined: Callable[..., Path]
) -> None:
    def apart(row: str, seed: int, task: str, category: str, case: int) -> float:
        return 3.0 + (row == "E2") + noise * _noise(row, seed, category, case)

    claim = results(examined("data-composition", apart, cases=cases))["takeaways"][0]["claims"][0]
    assert claim["found"]["low"] > 0.5
    assert claim["verdict"] == "undecided"
    assert word in claim["why"]


@pytest.mark.parametrize(
    ("edited", "word"),
    [('"score": 99', "99, beyond 1 to 5"), ('"score": "3"', "score is '3'"), ('"sco', "cut off")],
)
def test_an_edited_verdict_is_refused_by_file_and_line(edited: str, word: str, examined: Callable[..., Path]) -> None:
    folder = examined("data-composition", like_the_paper)
    file = next(iter(folder.glob("examination/**/verdicts/probe.jsonl")))
    lines = file.read_text().splitlines()
    lines[3] = lines[3].partition('"score"')[0] + edited + ("}" if ":" in edited else "")
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(JudgeError, match=rf"probe\.jsonl:4: .*{word}"):
        results(folder)


def test_a_study_that_is_half_done_lists_what_is_missing(examined: Callable[..., Path]) -> None:
    folder = examined("data-composition", like_the_paper)
    (folder / "examination" / "E5-seed0" / "000300" / "verdicts" / "probe.jsonl").unlink()
    (folder / "examination" / "E5-seed1" / "000300" / "verdicts" / "probe.jsonl").unlink()
    found = results(folder)
    assert found["missing"] == ["E5-seed0", "E5-seed1"]
    claim = found["takeaways"][0]["claims"][0]
    assert (claim["verdict"], claim["why"], claim["found"]) == ("undecided", "not examined yet", None)
    assert found["takeaways"][1]["verdict"] == "reproduced"  # needs E1 to E3 alone


def test_a_judge_that_scored_too_little_is_left_out(examined: Callable[..., Path]) -> None:
    """It refuses what is hard: the rest would flatter."""
    folder = examined("data-composition", like_the_paper)
    for seed in (0, 1):
        file = folder / "examination" / f"E5-seed{seed}" / "000300" / "verdicts" / "probe.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        hard = sorted(line["score"] for line in lines)[3]
        lines = [line | {"status": "refused", "score": None} if line["score"] < hard else line for line in lines]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = results(folder)
    assert found["missing"] == ["E5-seed0", "E5-seed1"]
    assert found["short"][0] == {"gallery": "E5-seed0/000300", "judge": "probe", "scored": 117, "asked": 120}
    assert "scored 117 of 120 pictures of E5-seed0/000300" in " ".join(warnings(found))
    assert next(row for row in found["tables"][0]["rows"] if row["name"] == "E5")["rank"] is None
    assert found["takeaways"][0]["claims"][0]["why"] == "not examined yet"


def test_two_judges_of_one_name_are_refused(examined: Callable[..., Path]) -> None:
    folder = examined("data-composition", like_the_paper)
    file = folder / "examination" / "E5-seed0" / "000300" / "verdicts" / "probe.jsonl"
    lines = [json.loads(line) | {"model": "reader-2"} for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    other = folder / "examination" / "E1-seed0" / "000300" / "verdicts" / "probe.jsonl"
    lines = [json.loads(line) | {"model": "reader-1"} for line in other.read_text().splitlines()]
    other.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(JudgeError, match=r"judge probe is not one judge: model reader-1 in .*E1-seed0.*, reader-2 in"):
        results(folder)


def test_seeds_that_are_new_join_a_study(examined: Callable[..., Path]) -> None:
    folder = examined("data-composition", like_the_paper, seeds=2)
    study, before = resolve_grid(plan.load_study("data-composition")[0], seeds=1), open_study(folder)
    begin_study(StudyFolder(folder), study.plan, study.definition(), 300, (5,), {})
    assert before.seeds == (0, 1)
    assert open_study(folder).seeds == (0, 1, 5)
    assert results(folder)["missing"] == [f"E{i}-seed5" for i in range(1, 6)]


def test_specialists_together_answer_each_for_its_own(examined: Callable[..., Path]) -> None:
    def by_teacher(row: str, seed: int, task: str, category: str, case: int) -> float:
        return {"teacher:portrait": 4.0, "teacher:text": 3.0}.get(row, 2.0)

    found = results(examined("teacher-guidance", by_teacher))
    row = next(row for row in found["tables"][0]["rows"] if row["name"] == "teacher:specialised")
    values = {name: score["value"] for name, score in row["judges"]["probe"].items()}
    assert values == {"landscape": 2.0, "portrait": 4.0, "text": 3.0, "average": 3.0}


def test_moments_are_curves_and_can_be_claimed(examined: Callable[..., Path]) -> None:
    def failing(row: str, seed: int, task: str, category: str, case: int) -> float:
        at_first = {"specialised-alone@0.1": 4.2, "base-only@0.1": 3.9, "specialised-alone": 2.0, "step-wise": 4.7}
        at_first |= {"teacher:portrait": 4.4, "teacher:text": 4.4}
        return at_first.get(row, 4.0) + 0.1 * _noise(row, seed, category, case)

    found = results(examined("teacher-guidance", failing))
    (takeaway,) = found["takeaways"]
    assert takeaway["verdict"] == "reproduced"
    curve = found["moments"][0]["cells"]["specialised-alone"]
    assert [point["iteration"] for point in curve] == [8, 30, 60, 90, 128, 300]
    assert curve[1]["score"]["value"] > 4.1
    assert curve[-1]["score"]["value"] < 2.1


def test_two_judges_are_averaged_by_the_papers_rule(examined: Callable[..., Path]) -> None:
    """The second judge reverses the order of the first, more strongly: it decides ranks and contrasts."""
    folder = examined("data-composition", like_the_paper)
    for file in folder.glob("examination/**/verdicts/probe.jsonl"):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        for judge, steep in (("probe", 1 / 3), ("strict", -1)):
            told = [line | {"judge": judge, "score": 3 + steep * (line["score"] - 3)} for line in lines]
            file.with_name(f"{judge}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))
    found = results(folder)
    assert found["judges"] == ["probe", "strict"]
    ranks = {row["name"]: row["rank"] for row in found["tables"][0]["rows"]}
    assert ranks["E3"] == 1
    assert found["takeaways"][0]["verdict"] == "not reproduced"


def test_what_judges_keep_beside_their_verdicts_is_no_verdict(examined: Callable[..., Path]) -> None:
    folder = examined("data-composition", like_the_paper)
    before = results(folder)
    for file in folder.glob("examination/**/verdicts/probe.jsonl"):
        file.with_name("probe.attempts.jsonl").write_text(file.read_text().replace('"probe"', '"attempt"'))
        with file.open("a") as more:
            more.write(
                '{"judge": "probe", "status": "refused", "score": null, "case": "t2i-text-0", "seed": 7}\n{"torn'
            )
    assert results(folder) == before


def test_a_run_that_disagrees_is_not_outvoted(examined: Callable[..., Path]) -> None:
    """Where one run is below, neither further runs nor further cases make every run agree, so no number is told."""

    def torn(row: str, seed: int, task: str, category: str, case: int) -> float:
        return 3.0 + (0.4 if seed == 0 else -0.05) * (row == "E2") + 0.01 * _noise(row, seed, category, case)

    claim = results(examined("data-composition", torn))["takeaways"][0]["claims"][0]
    assert claim["verdict"] == "undecided"
    assert (claim["runs_to_decide"], claim["cases_to_decide"]) == (None, None)
    assert "would decide it" not in claim_words(claim)


def test_only_keys_in_which_cells_differ_are_listed(examined: Callable[..., Path]) -> None:
    """An axis may be a whole section, of which cells change a key each."""
    axis = results(examined("task-mixture", lambda *key: 3.0))["axis"]
    assert axis["zero-shot"] == {"tasks.t2i": 10, "tasks.edit": 0}
    adapters = results(examined("lora-loss", lambda *key: 3.0))["axis"]
    assert adapters["rank-2"] == {"student.adapter.rank": 2, "student.adapter.alpha": 2.0}  # not its targets
