"""Students of families whose stock class knows no `sample_sigmas`: the scheduler carries the grid, exactly."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewstep.backbones.families import load_backbone
from fewstep.backbones.folder import read_index
from fewstep.backbones.stock import QwenImagePipeline, pipeline_qwenimage_edit_plus
from fewstep.backbones.testing import tiny_flux2_klein, tiny_flux3, tiny_longcat_image, tiny_qwen_image, tiny_z_image
from fewstep.export.card import StudentInfo
from fewstep.export.folder import (
    ExportOptions,
    StudentWeights,
    export_lora,
    export_student,
    refuse_grid,
)
from fewstep.export.grids import static_shift
from fewstep.export.lora import Lora
from fewstep.export.run_student import RunStudent
from fewstep.export.verify import verify, verify_lora
from fewstep.flow.sigmas import SigmaGrid
from fewstep.runtime.errors import ExportError
from fewstep.sample.pictures import (
    generate_pictures,
    load_student,
    open_model,
)
from tests.export.adapters import random_adapter

GRID = SigmaGrid.static(4, 3.0)
RECIPE = "name: tiny\nsize: [64, 64]\n"
BASES: dict[str, Callable[[], Any]] = {
    "qwen-image": tiny_qwen_image.qwen_image_pipeline,
    "qwen-image-edit": tiny_qwen_image.qwen_image_edit_pipeline,
    "flux2-klein": tiny_flux2_klein.flux2_klein_pipeline,
    "flux3-klein": tiny_flux3.flux3_pipeline,
    "z-image": tiny_z_image.z_image_pipeline,
    "longcat-image": tiny_longcat_image.longcat_image_pipeline,
    "longcat-image-edit": tiny_longcat_image.longcat_image_edit_pipeline,
}
DRAW_ONLY = {"qwen-image", "z-image", "longcat-image"}
OFF = {"flux2-klein": "1.0", "z-image": "0.0", "longcat-image": "1.0", "longcat-image-edit": "1.0"}  # guidance_scale


def base_of(name: str, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    base = tmp_path / "base"
    BASES[name]().save_pretrained(base)
    return base, random_adapter(load_backbone(base, dtype=torch.float32, parts="transformer"))


def student_of(name: str, tmp_path: Path, grid: SigmaGrid = GRID) -> tuple[Path, dict[str, Any]]:
    base, adapter = base_of(name, tmp_path)
    info = StudentInfo("Tiny", (64, 64), "someone/tiny")
    student = export_student(
        base, StudentWeights(adapter, "adapter", 6.0), grid, tmp_path / "s", RECIPE, info, ExportOptions(dtype="fp32")
    )
    return student, adapter


LONG = pytest.param("longcat-image-edit", marks=pytest.mark.slow)  # whose stock class edits at a megapixel and no other


@pytest.mark.parametrize("name", ["qwen-image", "flux2-klein", "flux3-klein", "z-image", "longcat-image", LONG])
def test_a_fresh_process_samples_right(name: str, tmp_path: Path) -> None:
    student, _ = student_of(name, tmp_path)
    report = verify(student)
    assert [check.task for check in report.checks] == (["t2i"] if name in DRAW_ONLY else ["t2i", "edit"])
    for check in report.checks:
        assert check.times == pytest.approx(list(GRID), abs=1e-6)
        assert check.latent_error < (1e-5 if name.startswith(("z-image", "longcat", "flux3")) else 1e-4)
        assert check.levels <= 1


@pytest.mark.parametrize("name", ["qwen-image", "flux2-klein", "flux3-klein", "z-image", "longcat-image"])
def test_a_lora_on_the_base_is_the_run_s_student(name: str, tmp_path: Path) -> None:
    """klein's base is guided by its own call, unless a caller turns that off."""
    base, adapter = base_of(name, tmp_path)
    info = StudentInfo("Tiny", (64, 64), "someone/tiny")
    lora = export_lora(base, StudentWeights(adapter, "adapter", 6.0), GRID, tmp_path / "lora", RECIPE, info)
    report = verify_lora(lora, base, RunStudent({}, Lora.of(adapter, 6.0)), GRID, size=(64, 64))
    assert report.exact
    assert [check.task for check in report.checks] == (["t2i"] if name in DRAW_ONLY else ["t2i", "edit"])
    for check in report.checks:
        assert check.times == pytest.approx(list(GRID), abs=1e-6)
        assert check.run_error is not None
        assert check.run_error < 1e-4
    card = (lora / "README.md").read_text()
    assert ("guidance_scale=" in card) == (name in OFF)
    assert f"guidance_scale={OFF.get(name, '')}" in card or name not in OFF
    assert ("pipe.transformer.load_lora_adapter(" in card) == (name == "longcat-image")


def test_an_edit_student_does_both_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_qwenimage_edit_plus, "VAE_IMAGE_SIZE", 64 * 64)
    student, _ = student_of("qwen-image-edit", tmp_path)
    model, asked = load_student(student), {"height": 64, "width": 64, "num_inference_steps": 4}
    (ours,) = generate_pictures(model, ["a boat"], seed=9)
    drawing = QwenImagePipeline.from_pretrained(student)
    drawing.set_progress_bar_config(disable=True)
    seed = torch.Generator().manual_seed(9)
    assert ours.tobytes() == drawing(prompt="a boat", generator=seed, **asked).images[0].tobytes()
    (edited,) = generate_pictures(model, ["at night"], [ours], seed=9, size=(64, 64))
    seed = torch.Generator().manual_seed(9)
    stock = model.backbone.pipeline(prompt="at night", image=ours, generator=seed, **asked).images[0]  # type: ignore[attr-defined]
    assert edited.tobytes() == stock.tobytes()


@pytest.mark.parametrize("name", BASES)
def test_what_the_folder_states(name: str, tmp_path: Path) -> None:
    student, adapter = student_of(name, tmp_path)
    scheduler = json.loads((student / "scheduler" / "scheduler_config.json").read_text())
    assert (scheduler["shift"], scheduler["use_dynamic_shifting"], scheduler["shift_terminal"]) == (3.0, False, None)
    index = read_index(student)
    assert "sample_sigmas" not in index
    assert index.get("is_distilled", False) == (name == "flux2-klein")
    assert json.loads((student / "sample_sigmas.json").read_text()) == list(GRID)
    card = (student / "README.md").read_text()
    assert "num_inference_steps=4" in card
    assert "output_resolution" not in card
    assert ("QwenImagePipeline.from_pipe" in card) == (name == "qwen-image-edit")
    assert ("LongCatImagePipeline.from_pipe" in card) == (name == "longcat-image-edit")
    assert ("edited = " in card) == (name not in DRAW_ONLY)
    assert ("enable_prompt_rewrite=False" in card) == name.startswith("longcat")
    assert (f"guidance_scale={OFF[name]}" in card) if name in OFF and name != "flux2-klein" else True
    model = open_model(student)
    assert model.own_steps == 4
    assert not model.guidance.active
    info = StudentInfo("Tiny", (64, 64), "someone/tiny")
    lora = export_lora(
        tmp_path / "base", StudentWeights(adapter, "adapter", 6.0), GRID, tmp_path / "lora", RECIPE, info
    )
    assert json.loads((lora / "scheduler" / "scheduler_config.json").read_text())["shift"] == 3.0
    assert not open_model(tmp_path / "base").is_student


def test_a_grid_that_cannot_be_carried_is_refused(tmp_path: Path) -> None:
    odd = SigmaGrid.of([1.0, 0.9, 0.7, 0.5])
    with pytest.raises(ExportError, match=r"student\.shift"):
        student_of("qwen-image", tmp_path, odd)
    assert not (tmp_path / "s").exists()
    with pytest.raises(ExportError, match="even steps"):
        refuse_grid(tmp_path / "base", odd)
    refuse_grid(tmp_path / "base", SigmaGrid.static(8, 2.5))
    refuse_grid("pocket", odd)


@given(st.integers(1, 50), st.floats(0.2, 20))
def test_any_static_grid_finds_its_shift(steps: int, shift: float) -> None:
    found = static_shift(SigmaGrid.static(steps, shift))
    assert found is not None
    assert steps == 1 or found == pytest.approx(shift, rel=1e-6)


@pytest.mark.parametrize("sigmas", [[0.9], [0.95, 0.7, 0.4], [1.0, 0.9, 0.7, 0.5]])
def test_other_grids_find_none(sigmas: list[float]) -> None:
    assert static_shift(SigmaGrid.of(sigmas)) is None
