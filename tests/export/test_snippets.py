"""What a user copies opens a student as it ships: the README's snippet, and the one on the student's own card."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.backbones.testing import tiny_qwen_image_21
from fewstep.export.card import StudentInfo
from fewstep.export.folder import StudentWeights, export_student
from fewstep.flow.sigmas import SigmaGrid
from tests.export.adapters import random_adapter

README = Path(__file__).parent.parent.parent / "README.md"


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In bf16 throughout, as students are: without a dtype its parts would open in different ones."""
    folder = tmp_path_factory.mktemp("snippets")
    tiny_qwen_image_21.qwen_image_21_pipeline(0).to(torch.bfloat16).save_pretrained(folder / "base")
    weights = StudentWeights(random_adapter(QwenImage21.load(folder / "base", torch.float32)), "adapter", 6.0)
    about = StudentInfo("Tiny student", (64, 64), "someone/tiny")
    return export_student(folder / "base", weights, SigmaGrid.static(4, 3.0), folder / "student", "name: tiny\n", about)


def run(snippet: str) -> Any:
    names: dict[str, Any] = {}
    exec(snippet, names)
    return names["picture"]


def python_of(page: str) -> str:
    (block,) = re.findall(r"```python\n(.*?)```", page, flags=re.S)[:1]
    return block


def test_the_readme_opens_a_student(student: Path) -> None:
    snippet = python_of(README.read_text())
    assert "runs/demo/student" in snippet
    assert run(snippet.replace("runs/demo/student", str(student))).size == (64, 64)


def test_a_students_card_opens_it(student: Path) -> None:
    snippet = python_of((student / "README.md").read_text())
    here = snippet.replace("PATH_OF_THIS_FOLDER", str(student)).replace('.to("cuda")', "")
    assert run(here).size == (64, 64)
