"""How much of a small update the stored weights have lost, and that the one who exports is told."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewstep.backbones.testing import tiny_qwen_image_21
from fewstep.export.card import StudentInfo
from fewstep.export.folder import ExportOptions, StudentWeights, export_student
from fewstep.export.lora import Lora
from fewstep.export.weights import STEM, Rounding, write_full, write_merged
from fewstep.flow.sigmas import SigmaGrid

GRID = SigmaGrid.static(4, 3.0)
OUT, IN, RANK = 64, 2048, 64
STEPS, RATE = 15, 2e-5  # so many of Adam's first steps, each of its rate


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    """A base in bfloat16, with weights as wide as those of 7 B."""
    weight = 0.02 * torch.randn(OUT, IN, generator=torch.Generator().manual_seed(0))
    (tmp_path / "base").mkdir()
    save_file({"layer.weight": weight.bfloat16()}, tmp_path / "base" / f"{STEM}.safetensors")
    return tmp_path / "base"


def after(steps: int) -> dict[str, Tensor]:
    """A LoRA after so many steps of one direction: A as it was drawn, B = 0 -+ steps x rate."""
    generator = torch.Generator().manual_seed(1)
    a = (2 * torch.rand(RANK, IN, generator=generator) - 1) / IN**0.5
    b = steps * RATE * torch.randn(OUT, RANK, generator=generator).sign()
    return {"layer.lora_A.weight": a, "layer.lora_B.weight": b}


@pytest.mark.parametrize(("steps", "least", "most"), [(STEPS, 0.7, 0.9), (100 * STEPS, 0.005, 0.05)])
def test_a_small_update_is_mostly_lost_in_bf16_and_a_large_one_is_not(
    layer: Path, tmp_path: Path, steps: int, least: float, most: float
) -> None:
    lora = Lora.of(after(steps), RANK)
    rounding = write_merged(layer, tmp_path / "merged", lora, torch.bfloat16)
    base = load_file(layer / f"{STEM}.safetensors")["layer.weight"].double()
    stored = load_file(tmp_path / "merged" / f"{STEM}.safetensors")["layer.weight"].double()
    update = lora.updates["layer"].delta().double()
    assert rounding.relative == pytest.approx(float((stored - base - update).norm() / update.norm()), rel=1e-3)
    assert least < rounding.relative < most
    assert rounding.is_large == (steps == STEPS)
    assert write_merged(layer, tmp_path / "fp32", lora, torch.float32).relative < 1e-3


def test_what_was_measured_to_be_harmless_is_not_told() -> None:
    """docs/export.md: pictures lost 1.6 % of what was learnt at 0.35, and a sixth at 0.65."""
    assert not Rounding(0.35).is_large
    assert Rounding(0.45).is_large


def test_weights_that_hardly_moved_are_lost_too(layer: Path, tmp_path: Path) -> None:
    """All weights were trained (student.mode full)."""
    base = load_file(layer / f"{STEM}.safetensors")
    moved = {"layer.weight": base["layer.weight"].float() + STEPS * 2e-6 * torch.ones(OUT, IN)}
    assert write_full(layer, tmp_path / "bf16", moved, torch.bfloat16).is_large
    assert write_full(layer, tmp_path / "fp32", moved, torch.float32).relative == 0.0


def test_the_one_who_exports_is_told_and_so_is_the_card(
    adapter: Mapping[str, Tensor], about: StudentInfo, tmp_path: Path
) -> None:
    tiny_qwen_image_21.qwen_image_21_pipeline(0).to(torch.bfloat16).save_pretrained(tmp_path / "base")
    told: dict[str, list[str]] = {"small": [], "large": [], "fp32": []}
    for name, scale in (("small", 1e-4), ("large", 1.0), ("fp32", 1e-4)):
        weights = {key: scale * value if "lora_B" in key else value for key, value in adapter.items()}
        export_student(
            tmp_path / "base",
            StudentWeights(weights, "adapter", 6.0),
            GRID,
            tmp_path / name,
            "name: tiny\n",
            about,
            ExportOptions(dtype="fp32" if name == "fp32" else "bf16"),
            told[name].append,
        )
    assert told["large"] == told["fp32"] == []
    (line,) = told["small"]
    assert "so small that rounding to bf16 changes the weights" in line
    assert "--form adapter" in line
    assert "--dtype fp32" in line
    cards = {name: (tmp_path / name / "README.md").read_text() for name in told}
    assert "**That is much: use the LoRA on the base, or export in fp32**" in cards["small"]
    assert not any("That is much" in cards[name] for name in ("large", "fp32"))
