"""What the docs say is there: commands and their options, files, recipes, make targets."""

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from fewstep.cli.main import app
from fewstep.run import recipe

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> list[str]:
    """Every `fewstep ...` line of the pages' shell blocks, without comments."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
            found += [line.split(" #")[0].strip() for line in block.splitlines() if line.startswith("fewstep ")]
    return found


@pytest.mark.parametrize("line", commands())
def test_a_documented_command_exists_with_its_options(line: str) -> None:
    command = typer.main.get_command(app)
    words = shlex.split(line)[1:]
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    assert not getattr(command, "commands", {}), f"'{line}' names no command"
    assert {word for word in words if word.startswith("-")} <= known, line


def test_some_commands_are_documented() -> None:
    assert len(commands()) >= 8


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]


def test_the_two_commands_are_targets() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    promised = set(re.findall(r"^make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert promised == {"demo", "test"} <= targets


def test_every_number_of_a_recipe_says_where_it_comes_from() -> None:
    for name in recipe.shipped_recipes():
        text = (ROOT / "src" / "fewstep" / "run" / "recipes" / f"{name}.yaml").read_text()
        assert isinstance(yaml.safe_load(text), dict)
        for line in text.splitlines():
            if re.search(r":\s+\d", line) and "source:" not in line:
                assert re.search(r"#.*\b(paper|field|ours)\b", line), f"{name}: {line.strip()}"
