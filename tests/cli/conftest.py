"""A tiny teacher on disk, a few cases with pictures, and a recipe of two iterations over them."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fewstep.backbones.testing import tiny_qwen_image_21


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "tiny"
    tiny_qwen_image_21.qwen_image_21_pipeline(0).save_pretrained(folder)
    return folder


@pytest.fixture
def recipe(teacher: Path, tmp_path: Path) -> dict[str, Any]:
    """The content of a recipe file; a test changes what it is about, then calls `write_recipe`."""
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "source.png")
    t2i = [{"id": f"t{i}", "prompt": f"a red house number {i}", "category": "landscape"} for i in range(4)]
    edit = [
        {"id": f"e{i}", "prompt": f"make it night {i}", "category": "scene", "reference_images": ["source.png"]}
        for i in range(4)
    ]
    for name, cases in (("t2i", t2i), ("edit", edit)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
    role = {"adapter": {"rank": 2, "alpha": 2}}
    return {
        "name": "tiny",
        "model": str(teacher),
        "size": [64, 64],
        "run": {"iterations": 4, "batch": 2, "precision": "fp32", "save_every_iterations": 2, "device": "cpu"}
        | {"sample_every_iterations": 4, "examine_every_iterations": 0},
        "data": {
            "t2i": [{"source": str(tmp_path / "t2i.jsonl")}],
            "edit": [{"source": str(tmp_path / "edit.jsonl")}],
        },
        "student": role,
        "critic": role | {"updates": 1},
    }


@pytest.fixture
def model_must_stay_unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model fails the test: what is refused is refused before."""

    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("fewstep.run.launch.load_backbone", loaded)
