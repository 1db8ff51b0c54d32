"""The command line in the test's own process."""

from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner, Result

from fewstep.cli.main import app


def fewstep(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def write_recipe(recipe: dict[str, Any], folder: Path) -> str:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return str(path)
