"""A tiny base pipeline on disk, made once, and a student of it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.backbones.testing import tiny_qwen_image_21
from fewstep.export.card import StudentInfo
from tests.export.adapters import random_adapter

CARD = "---\nlicense: other\nlicense_name: tiny-research\nlicense_link: LICENSE\n---\n# Tiny base\n"


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stock folder with a card and a licence, fp32."""
    folder = tmp_path_factory.mktemp("base") / "tiny"
    tiny_qwen_image_21.qwen_image_21_pipeline(0).save_pretrained(folder)
    (folder / "README.md").write_text(CARD)
    (folder / "LICENSE").write_text("for tests only")
    return folder


@pytest.fixture(scope="session")
def backbone(base: Path) -> QwenImage21:
    return QwenImage21.load(base, torch.float32)


@pytest.fixture
def about() -> StudentInfo:
    return StudentInfo("Tiny student", (64, 64), "someone/tiny", "tiny", {"t2i": 5, "edit": 5}, {"attributes": ".93"})


@pytest.fixture(scope="session")
def adapter(backbone: QwenImage21) -> dict[str, Tensor]:
    return random_adapter(backbone)


@pytest.fixture
def counted() -> Callable[[torch.nn.Module], list[float]]:
    """Times t of every call of a transformer from now on."""

    def watch(transformer: torch.nn.Module) -> list[float]:
        times: list[float] = []

        def note(module: torch.nn.Module, args: tuple[object, ...], named: dict[str, Tensor]) -> None:
            times.append(float(named["timestep"][0]))

        transformer.register_forward_pre_hook(note, with_kwargs=True)
        return times

    return watch
