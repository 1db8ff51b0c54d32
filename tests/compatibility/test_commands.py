"""The command line as it was: names, options, defaults, help, exit codes; and what the shipped recipes resolve to."""

import json
from pathlib import Path

import pytest

from tests.compatibility.held import FIXTURES, alike, answers, fewstep, help_text, words_and_figures

RECIPES = sorted(path.stem for path in (FIXTURES / "recipes").iterdir())


def test_every_command_has_its_options_defaults_and_help() -> None:
    assert help_text().splitlines() == (FIXTURES / "help.txt").read_text().splitlines()


def test_exit_codes(tmp_path: Path) -> None:
    assert answers(tmp_path) == json.loads((FIXTURES / "exits.json").read_text())


def test_the_same_recipes_are_shipped() -> None:
    listed = fewstep("recipe", "list").output
    assert RECIPES
    assert all(name in listed for name in RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_resolves_as_it_did(name: str) -> None:
    shown = fewstep("recipe", "show", name)
    assert shown.exit_code == 0, shown.output
    assert shown.output.splitlines() == (FIXTURES / "recipes" / f"{name}.yaml").read_text().splitlines()


def test_every_key_of_a_recipe_has_its_type_default_and_meaning() -> None:
    shown, held = fewstep("recipe", "schema").output, (FIXTURES / "schema.txt").read_text()
    assert alike(words_and_figures(shown), words_and_figures(held), rel=0.0, least=0.0)
