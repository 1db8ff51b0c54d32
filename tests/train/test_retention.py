"""Which checkpoints stay: the newest, and the best few by the examiner's figure."""

from pathlib import Path

import pytest

from fewstep.train.checkpoint import Position, load_checkpoint
from fewstep.train.plan import RunPlan
from fewstep.train.retention import (
    Best,
    Ranking,
    expired,
)
from tests.train.runs import toy_trainer

FIGURES = {0: 99.0, 2: 0.2, 4: 0.9, 6: 0.5, 8: 0.9, 10: 0.1, 12: 0.6}


def ranking(places: int = 2, is_best: str = "highest") -> Ranking:
    return Ranking(RunPlan.model_validate({"best_by": "letters", "best_is": is_best, "keep_best": places}))


@pytest.mark.parametrize(("is_best", "expected"), [("highest", [8, 4, 12]), ("lowest", [10, 2, 6])])
def test_the_best_few_in_order_and_the_later_of_equals_first(is_best: str, expected: list[int]) -> None:
    held = ranking(3, is_best)
    for iteration, value in list(FIGURES.items())[1:]:
        held.enter(iteration, value)
    assert held.iterations == expected


def test_only_who_enters_is_worth_keeping() -> None:
    held = ranking(2)
    assert [held.enter(i, v) for i, v in ((1, 0.5), (2, 0.4), (3, 0.4), (4, float("nan")), (5, 0.45))] == [
        True, True, True, False, True,
    ]  # fmt: skip
    assert held.first == Best(1, 0.5)
    assert held.iterations == [1, 5]


def test_an_iteration_examined_again_counts_once() -> None:
    held = ranking(2)
    for value in (0.5, 0.4):
        held.enter(3, value)
    assert held.ranked == [Best(3, 0.4)]


def test_places_of_another_figure_are_not_taken_over() -> None:
    held = ranking(2)
    held.enter(3, 0.5)
    for other, taken in ((ranking(2), [3]), (ranking(2, "lowest"), []), (ranking(1), [3])):
        other.load({"best": None, "ranking": held.state()})
        assert other.iterations == taken
    older = ranking(2)
    older.load({"best": {"iteration": 7, "value": 0.1}})
    assert older.first == Best(7, 0.1)


def test_what_goes_is_neither_new_nor_spared() -> None:
    assert expired(list("abcdef"), 2, {"b", "f"}) == ["a", "c", "d"]
    assert expired(["a"], 3, ()) == []


def test_a_run_keeps_its_newest_and_its_best_also_when_it_was_interrupted(tmp_path: Path) -> None:
    hooks = {"examine": lambda done: {"letters": FIGURES[done]}}
    run = {"save_every_iterations": 1, "keep_checkpoints": 2, "best_by": "letters", "keep_best": 3}
    for iterations in (5, 12):
        outcome = toy_trainer(tmp_path, hooks=hooks, iterations=iterations, **run).train()
    assert outcome.best == Best(8, 0.9)
    kept = {place.name for place in (tmp_path / "checkpoints").iterdir()}
    assert kept == {Position(i).name for i in (4, 8, 11, 12)}
    assert load_checkpoint(outcome.last)[1]["best"] == {"iteration": 8, "value": 0.9}
