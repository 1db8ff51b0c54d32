"""What the command line says of attention kernels."""

import json
from pathlib import Path
from typing import Any

from tests.cli.command_line import fewstep, write_recipe


def test_a_run_tells_and_records_its_kernel(recipe: dict[str, Any], tmp_path: Path) -> None:
    result = fewstep("distill", write_recipe(recipe, tmp_path), "--out", tmp_path / "run", "--set", "run.iterations=1")
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    (start,) = json.loads((tmp_path / "run" / "environment.json").read_text())["starts"]
    assert start["ranks"] == 1
    assert start["attention"]
    for use in start["attention"]:
        assert f"attention of {' and '.join(use['tasks'])}: {use['kernel']} ({use['heads']} heads of" in said
    assert {task for use in start["attention"] for task in use["tasks"]} == {"t2i", "edit"}


def test_doctor_names_the_kernel_of_a_model(teacher: Path) -> None:
    result = fewstep("doctor", teacher)
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.replace("│", " ").split())
    assert "attention on cpu torch's fused kernel for CPUs (" in said
