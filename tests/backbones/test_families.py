"""What is asked of every family's folder, and of teachers and students over it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from fewstep.backbones.conditioning_estimate import estimate_conditioning
from fewstep.backbones.families import (
    FAMILIES,
    KNOWN,
    load_backbone,
)
from fewstep.backbones.flux2_klein import Flux2Klein
from fewstep.backbones.qwen_image import QwenImage, reference_size
from fewstep.backbones.stock import pipeline_qwenimage_edit_plus
from fewstep.backbones.testing import tiny_flux2_klein, tiny_qwen_image
from fewstep.cli.verbs import doctor
from fewstep.flow.guidance import NO_GUIDANCE
from fewstep.flow.rng import NamedRNG
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.plan import (
    AdapterPlan,
    CriticPlan,
    StudentPlan,
    TeachersSpec,
)
from fewstep.roles.validation import validate_teachers
from fewstep.runtime.errors import LayoutError, ModelError
from tests.backbones.families import EDIT, SIZE, T2I, Family, noise_for, picture
from tests.backbones.families import FAMILIES as UNDER_CONTRACT

SMALL = AdapterPlan(rank=2, alpha=2.0)


def saved(pipeline: Any, to: Path) -> Path:
    pipeline.save_pretrained(to)
    return to


def test_every_family_is_known_by_its_classes() -> None:
    assert {family.family for family in KNOWN} == {family.name for family in UNDER_CONTRACT}
    assert all(FAMILIES[name] is family for family in KNOWN for name in family.pipelines)


def test_each_missing_file_is_named(family: Family, stock: Any, tmp_path: Path) -> None:
    folder = saved(stock.pipeline, tmp_path)
    needed = [*folder.rglob("*.safetensors"), *folder.rglob("tokenizer_config.json"), *folder.rglob("tokenizer.json")]
    needed += [*folder.glob("*/config.json"), folder / "scheduler" / "scheduler_config.json"]
    assert len(needed) >= 9
    for file in needed:
        content = file.read_bytes()
        file.unlink()
        with pytest.raises(ModelError, match=file.name) as caught:
            family.load(folder, torch.float32)
        assert file.parent.name in str(caught.value)
        file.write_bytes(content)
    assert load_backbone(folder, dtype=torch.float32).family == stock.family


def test_doctor_describes_a_model(family: Family, stock: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(stock.pipeline, tmp_path)
    console = Console(record=True, width=240)
    doctor._model(str(folder), console)
    words = console.export_text()
    tasks = "t2i, edit" if family.references else "t2i"
    for word in (stock.family, "complete", tasks, "this model states none", "answers, rms velocity", "shift"):
        assert word in words
    monkeypatch.setattr(doctor, "available_memory", lambda: 1000)
    doctor._model(str(folder), console)
    assert "not made" in console.export_text()


def test_a_conditioning_estimate_is_what_is_stored(family: Family, stock: Any, tmp_path: Path) -> None:
    """Widths and reference grids exactly; the length of texts where it does not depend on the tokenizer."""
    estimate = estimate_conditioning(str(saved(stock.pipeline, tmp_path)))
    cond = EDIT.within(stock).conditioning(stock)
    assert estimate.text_width == cond.text_BLC.shape[2]
    assert estimate.latent_width == stock.latent_channels
    picture_size = EDIT.references[0].size[::-1]
    if not family.references:
        return
    if stock.family == "qwen-image":
        assert estimate.reference_grid(picture_size, SIZE) == estimate.reference_grid(picture_size, (1024, 1024))
    else:
        assert estimate.reference_grid(picture_size, SIZE) == cond.layout.references[0]
    if family.one_length:
        assert estimate.text_length("x", 0) == T2I.conditioning(stock).text_BLC.shape[1]


def test_the_estimate_of_a_model_that_is_not_here_goes_by_its_name() -> None:
    for name, width in [("Qwen/Qwen-Image-2.1", 4096), ("Qwen/Qwen-Image-Edit-2511", 3584)]:
        assert estimate_conditioning(name).text_width == width
    klein = estimate_conditioning("black-forest-labs/FLUX.2-klein-base-4B")
    assert (klein.text_width, klein.text_length("x", 0)) == (3072, 512)
    assert klein.reference_grid((2048, 1024), (64, 64)) == (1448 // 16, 724 // 16)
    flux3 = estimate_conditioning("black-forest-labs/flux-3-image-klein-base")
    assert (flux3.text_width, flux3.text_length("x", 0), flux3.reference_grid((2048, 1024), (64, 64))) == (
        3072,
        80,
        (128, 64),
    )
    assert flux3.text_length("wooden " * 100, 0) * flux3.text_width * 2 <= 2e6, "bytes of 100 words in bf16"
    assert estimate_conditioning("Qwen/Qwen-Image-Edit-2511").reference_grid((64, 64), (64, 64)) == (64, 64)


# ---- Qwen-Image


def test_a_text_to_image_model_refuses_edits(tmp_path: Path) -> None:
    folder = saved(tiny_qwen_image.qwen_image_pipeline(), tmp_path)
    backbone = load_backbone(folder, dtype=torch.float32)
    cond = T2I.conditioning(backbone)
    assert torch.isfinite(backbone.velocity(backbone.transformer, noise_for(backbone, cond), torch.ones(1), cond)).all()
    with pytest.raises(LayoutError, match=r"QwenImagePipeline: it draws from text .* QwenImageEditPlusPipeline"):
        EDIT.conditioning(backbone)
    with pytest.raises(LayoutError, match="at most 3 references, not 4"):
        QwenImage.tiny().encode(["x"], [picture(64, 64)] * 4, SIZE)


def test_an_edit_model_with_a_teacher_for_each_task(tmp_path: Path) -> None:
    """The recipe of one student for both: base the edit model, a text-to-image model beside it."""
    base, other = (
        saved(tiny_qwen_image.qwen_image_edit_pipeline(), tmp_path / "edit"),
        saved(tiny_qwen_image.qwen_image_pipeline(3), tmp_path / "t2i"),
    )
    teacher = {"model": str(other), "anchor": True, "tasks": ["t2i"]}
    spec = TeachersSpec.model_validate({"named": {"t2i-teacher": teacher}})
    validate_teachers(spec, 4, str(base))
    backbone = load_backbone(base, dtype=torch.float32)
    cond = T2I.conditioning(backbone)
    roles = build_roles(
        backbone, RolesSpec(StudentPlan(adapter=SMALL), CriticPlan(adapter=SMALL), spec, 4), NamedRNG(0)
    )
    z_BND, t_B = noise_for(backbone, cond), torch.tensor([0.6])
    assert roles.teachers.of_task("edit") is roles.teachers.teachers["base"]
    theirs = roles.teachers.of_task("t2i").network
    want = QwenImage.from_pipeline(tiny_qwen_image.qwen_image_pipeline(3))
    v_BND = theirs.velocity(z_BND, t_B, cond)
    torch.testing.assert_close(v_BND, want.velocity(want.transformer, z_BND, t_B, cond), rtol=0, atol=1e-6)


def test_references_have_the_pipelines_own_area(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_qwenimage_edit_plus, "VAE_IMAGE_SIZE", 1024 * 1024)
    assert reference_size(picture(64, 64)) == (1024, 1024)
    assert reference_size(picture(96, 64)) == (832, 1248)


# ---- FLUX.2 klein


def test_a_distilled_klein_is_sampled_without_guidance() -> None:
    backbone = Flux2Klein.from_pipeline(tiny_flux2_klein.flux2_klein_pipeline(is_distilled=True))
    assert (backbone.default_guidance, backbone.default_steps) == (NO_GUIDANCE, 4)
    assert Flux2Klein.tiny().default_guidance.scale == 4


def test_klein_refuses_what_its_pipeline_refuses() -> None:
    backbone = Flux2Klein.tiny()
    for shape, word in [((63, 100), "too small"), ((1024, 64), "ratio")]:
        with pytest.raises(LayoutError, match=word):
            backbone.encode(["x"], [picture(*shape)], SIZE)
    large = backbone.encode(["x"], [picture(1500, 1000)], SIZE)[0]
    assert large.layout.references == ((836 // 16, 1254 // 16),)
