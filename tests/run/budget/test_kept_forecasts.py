"""Forecasts are kept, and never taken for another recipe's, shape's or model's."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from fewstep.backbones.fake_model import ModelSize
from fewstep.run.budget import forecast as forecasting
from fewstep.run.budget.forecast import forecast
from fewstep.run.budget.kept_forecasts import FOLDER, forecast_key, forecasting_anew
from fewstep.run.recipe import Recipe
from fewstep.runtime.parallel import SINGLE_RANK, Ranks
from fewstep.runtime.user_cache import user_cache
from tests.run.budget.test_rehearsal import batch_shape, recipe, size

SMALL, KIND = batch_shape("qwen-image-2.1", "t2i", 4), size("qwen-image-2.1")


@pytest.fixture
def rehearsals(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[object]:
    """What was rehearsed, with an empty cache."""
    monkeypatch.setenv("FEWSTEP_CACHE", str(tmp_path))
    made, whole = list[object](), forecasting._counted

    def counted(*given: object, **named: object) -> object:
        made.append(given)
        return whole(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(forecasting, "_counted", counted)
    return made


def test_the_same_question_is_answered_from_the_file(rehearsals: list[object]) -> None:
    plan = recipe()
    first = forecast(plan, SMALL, 1, False, KIND)
    again = forecast(plan.changed({"name": "other"}), SMALL, 1, False, KIND)
    assert len(rehearsals) == 1
    assert again == first
    assert list(again.peak.peak.items()) == list(first.peak.peak.items()), "in the same order"
    assert again.flops == first.flops

    (file,) = (user_cache() / FOLDER).iterdir()
    for torn in (file.read_text()[:-9], "[]"):
        file.write_text(torn)
        assert forecast(plan, SMALL, 1, False, KIND).flops == first.flops
    assert len(rehearsals) == 3


def test_whatever_changes_the_figures_is_another_question() -> None:
    plan = recipe()

    def key(plan: Recipe = plan, kind: ModelSize = KIND, ranks: Ranks = SINGLE_RANK, **more: object) -> str:
        told = {"shape": asdict(SMALL), "samples": 1, "on_gpu": False}
        return forecast_key(plan, kind, ranks, **told | more)

    others = [
        key(plan.changed({"run.gradient_checkpointing": "full"})),
        key(shape=asdict(replace(SMALL, text=25))),
        key(samples=2),
        key(on_gpu=True),
        key(kind=replace(KIND, config={**KIND.config, "num_layers": 3})),
        key(ranks=replace(SINGLE_RANK, world=2)),
    ]
    assert len({key(), *others}) == 1 + len(others)
    assert key(plan.changed({"name": "other"})) == key()


def test_a_cache_that_cannot_be_written_costs_time_alone(
    rehearsals: list[object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FEWSTEP_CACHE", str(tmp_path / "file"))
    for _ in range(2):  # `auto` asks again for the setting that it chose
        with forecasting_anew():
            first = forecast(recipe(), SMALL, 1, False, KIND)
            assert first.peak.bytes > 0
            assert forecast(recipe(), SMALL, 1, False, KIND) == first
    assert len(rehearsals) == 2, "one in each"
