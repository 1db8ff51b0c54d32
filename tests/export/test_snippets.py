"""What a user copies opens a student as it ships: the README's snippet, and the one on the student's own card."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.backbones.testing import tiny_qwen_image_21
from fewstep.export.card import StudentInfo
from fewstep.export.card_code import run_card_code
from fewstep.export.folder import StudentWeights, export_student
from fewstep.flow.sigmas import SigmaGrid
from fewstep.runtime.errors import ExportError
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
    assert run(snippet.replace("runs/demo/student", str(student))).size == (96, 96)  # the size of the demo's student


def test_a_students_card_opens_it(student: Path) -> None:
    snippet = python_of((student / "README.md").read_text())
    here = snippet.replace("PATH_OF_THIS_FOLDER", str(student)).replace('.to("cuda")', "")
    assert run(here).size == (64, 64)


def test_a_card_whose_code_does_not_run_is_no_verified_export(student: Path, tmp_path: Path) -> None:
    """As it is, it passes. Without its dtype it is what every card said once: text in bf16 beside weights in fp32."""
    assert "a picture of 64 x 64 px" in run_card_code(student, (64, 64), "cpu", 300)
    with pytest.raises(ExportError, match=r"draws 64 x 64 px, not 96 x 64"):
        run_card_code(student, (96, 64), "cpu", 300)
    broken = shutil.copytree(student, tmp_path / "broken")
    card = (student / "README.md").read_text()
    (broken / "README.md").write_text(card.replace(", dtype=torch.bfloat16", ""))
    with pytest.raises(ExportError, match=r"the code on the card of .* fails here: RuntimeError"):
        run_card_code(broken, (64, 64), "cpu", 300)
    (broken / "README.md").write_text("# no code")
    with pytest.raises(ExportError, match="has no README"):
        run_card_code(broken, (64, 64), "cpu", 300)
