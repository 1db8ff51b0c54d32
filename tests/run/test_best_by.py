"""A figure that chooses checkpoints is measured by somebody, or refused at the door."""

import pytest

from fewstep.run.best_by import FIGURES, refuse_best_without_examiner
from fewstep.run.preflight import preflight
from fewstep.run.recipe import load_recipe
from fewstep.runtime.errors import RecipeError
from fewstep.runtime.reporter import SILENT
from tests.cli.command_line import fewstep, refused


def test_a_model_without_examiner_is_refused_by_show_and_by_a_run() -> None:
    words = ("run.best_by: exact_psnr needs an examiner", "model elsewhere has none", "run.best_by: null")
    refused(fewstep("recipe", "show", "pocket", "--set", "model=elsewhere"), *words)
    refused(fewstep("distill", "pocket", "--set", "model=elsewhere", "--set", "run.device=cpu"), *words)
    with pytest.raises(RecipeError, match="needs an examiner"):
        preflight(load_recipe("pocket", {"model": "elsewhere", "run.device": "cpu"}), 1, SILENT)
    assert fewstep("recipe", "show", "pocket", "--set", "model=elsewhere", "--set", "run.best_by=null").exit_code == 0


def test_a_caller_may_bring_an_examiner_with_figures_of_its_own() -> None:
    refuse_best_without_examiner(
        load_recipe("pocket", {"model": "elsewhere", "run.best_by": "size"}), own_examiner=True
    )


def test_nothing_is_chosen_where_nothing_is_examined() -> None:
    with pytest.raises(RecipeError, match=r"run\.examine_every_iterations is 0: nothing would be examined"):
        load_recipe("pocket", {"run.examine_every_iterations": 0})
    load_recipe("pocket", {"run.examine_every_iterations": 0, "run.best_by": None})


def test_a_figure_that_the_probe_does_not_find_is_refused() -> None:
    with pytest.raises(
        RecipeError, match=r"run\.best_by is 'scores', but its examiner's figures are: score, attributes"
    ):
        refuse_best_without_examiner(load_recipe("pocket", {"run.best_by": "scores"}))
    for model, names in FIGURES.items():
        for name in names:
            refuse_best_without_examiner(load_recipe(model, {"run.best_by": name}))
    with pytest.raises(
        RecipeError, match=r"run\.best_by is 'letters', but its examiner's figures are: score, t2i_asked"
    ):
        refuse_best_without_examiner(load_recipe("pocket-harder", {"run.best_by": "letters"}))
