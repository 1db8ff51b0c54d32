"""The command line in the test's own process."""

from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner, Result

from fewstep.cli.main import app


def fewstep(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def refused(result: Result, *words: str) -> None:
    """Ends with exit code 2 and one message that holds all these words."""
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    output = " ".join(result.output.split())
    for word in words:
        assert word in output, output


def write_recipe(recipe: dict[str, Any], folder: Path) -> str:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return str(path)
