"""A report's differences from the row that a study names as its baseline."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewstep.runtime.errors import StudyError
from fewstep.study import plan
from fewstep.study.differences import is_sure
from fewstep.study.intervals import Interval
from fewstep.study.markdown import study_markdown
from fewstep.study.page import study_html
from fewstep.study.results import results
from tests.study.made_studies import changed


def made_score(row: str, seed: int, task: str, category: str, case: int) -> float:
    """Rank 2 is 0.5 below rank 8 in one run and 0.3 in the other, whatever the case; rank 32 differs by seed alone."""
    base = 3.0 + 0.01 * (case % 7) - 0.2 * (row == "teacher:base")
    if row.startswith("rank-2"):
        return base - (0.5 if seed else 0.3)
    if row.startswith("rank-32"):
        return base + (0.1 if seed else -0.1)
    return base


@pytest.fixture
def lora_loss(examined: Callable[..., Path]) -> dict[str, Any]:
    return results(examined("lora-loss", made_score))


def rows(found: dict[str, Any]) -> dict[str, Any]:
    (edits,) = found["differences"]
    return {row["name"]: row for row in edits["rows"]}


def test_differences_are_of_the_same_run_and_case(lora_loss: dict[str, Any]) -> None:
    told = rows(lora_loss)["rank-2"]["scores"]["average"]
    assert told["value"] == pytest.approx(-0.4)
    assert told["by_seed"] == pytest.approx([-0.3, -0.5])
    assert told["high"] < 0
    assert told["sure"]


def test_runs_that_disagree_are_no_difference(lora_loss: dict[str, Any]) -> None:
    told = rows(lora_loss)["rank-32"]["scores"]["average"]
    assert told["value"] == pytest.approx(0.0, abs=1e-9)
    assert not told["sure"]


def test_the_baseline_has_no_row(lora_loss: dict[str, Any]) -> None:
    assert lora_loss["differences"][0]["baseline"] == "editor teacher"
    assert list(rows(lora_loss)) == ["teacher:base", "rank-2", "rank-8", "rank-32"]  # nor have its own answers


def test_pages_have_them(lora_loss: dict[str, Any]) -> None:
    text, page = study_markdown(lora_loss, ()), study_html(lora_loss, ())
    assert "## Difference from editor teacher, edits" in text
    assert "-0.40\\*<br>" in text
    assert "Difference from editor teacher, edits" in page
    assert "-0.40*" in page


def test_a_study_without_a_baseline_has_none(examined: Callable[..., Path]) -> None:
    found = results(examined("task-mixture", made_score))
    assert found["differences"] == []
    assert "Difference from" not in study_markdown(found, ())


@pytest.mark.parametrize("name", ["odd", "teacher:odd", "none@0.5", "teacher:specialised"])
def test_an_unknown_baseline_is_refused(name: str) -> None:
    with pytest.raises(StudyError, match="baseline names"):
        plan.validate_study(changed(("baseline", name)), "tiny.yaml")


@pytest.mark.parametrize(
    ("low", "high", "by_seed", "sure"),
    [
        (0.1, 0.3, (0.1, 0.2), True),
        (0.1, 0.3, (-0.1, 0.5), False),
        (-0.1, 0.3, (0.1, 0.2), False),
        (-0.3, -0.1, (-0.2,), True),
        (None, None, (0.2,), False),
        (0.2, 0.2, (0.2, 0.2), False),  # an interval of no width
    ],
)
def test_sure_is_the_interval_and_every_run(
    low: float | None, high: float | None, by_seed: tuple[float, ...], sure: bool
) -> None:
    assert is_sure(Interval(0.2, low, high, 40, by_seed), 2) is sure
    assert not is_sure(Interval(0.2, low, high, 40, by_seed), 3)  # fewer than 20 cases a category
