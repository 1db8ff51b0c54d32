"""The texts of FLUX.2 klein and of FLUX 3 are stored as the transformer's first layer answers to them, so that layer is
one for all that a run reads."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fewstep.backbones.families import load_backbone, model_shapes, model_summary
from fewstep.backbones.flux2_klein import Flux2Klein
from fewstep.backbones.flux3_klein import Flux3Klein
from fewstep.backbones.testing.tiny_flux2_klein import flux2_klein_pipeline
from fewstep.backbones.testing.tiny_flux3 import flux3_pipeline
from fewstep.roles.adapters import linear_shapes
from fewstep.roles.plan import StudentPlan, TeachersSpec
from fewstep.roles.targets import target_modules
from fewstep.roles.validation import validate_init_from, validate_teachers
from fewstep.runtime.errors import AdapterError, ModelError
from tests.backbones.families import EDIT

LAYER = "context_embedder"


MADE: dict[str, tuple[Any, Any]] = {
    "flux2-klein": (Flux2Klein.tiny, flux2_klein_pipeline),
    "flux3-klein": (Flux3Klein.tiny, flux3_pipeline),
}


@pytest.fixture
def tiny() -> Flux2Klein:
    return Flux2Klein.tiny()


@pytest.fixture(scope="module", params=list(MADE))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    saved = tmp_path_factory.mktemp(family)
    MADE[family][1]().save_pretrained(saved)
    return saved


def test_a_stored_text_has_the_transformers_own_width(family: str, folder: Path) -> None:
    """From a folder too, where the transformer itself is not loaded."""
    tiny: Any = MADE[family][0]()
    (cond,) = tiny.encode(EDIT.prompts, EDIT.references, EDIT.size)
    assert cond.text_BLC.shape[2] == tiny.transformer.context_embedder.out_features
    assert cond.text_BLC.shape[2] != tiny.transformer.config.joint_attention_dim
    encoder = load_backbone(folder, dtype=torch.float32, parts="encoder")
    (read,) = encoder.encode(EDIT.prompts, EDIT.references, EDIT.size)
    torch.testing.assert_close(read.text_BLC, cond.text_BLC, rtol=0, atol=1e-6)


def test_the_layer_does_not_learn_and_the_stock_call_still_projects(tiny: Any) -> None:
    """Of klein, whose stock transformer takes both kinds of text."""
    assert LAYER not in target_modules("all", tiny, linear_shapes(tiny.transformer))
    (cond,) = tiny.encode(EDIT.prompts, EDIT.references, EDIT.size)
    states = tiny.pipeline.encode_prompt(list(EDIT.prompts))[0]
    z_BND = torch.ones(1, *tiny.noise_shape(cond.layout))
    tiny.transformer.requires_grad_(True)
    tiny.velocity(tiny.transformer, z_BND, torch.tensor([0.5]), cond).sum().backward()
    without = {name for name, parameter in tiny.transformer.named_parameters() if parameter.grad is None}
    assert without == {f"{LAYER}.weight"}
    torch.testing.assert_close(tiny.transformer.context_embedder(states), cond.text_BLC, rtol=0, atol=1e-6)


def test_a_lora_that_changes_it_is_refused(folder: Path, tmp_path: Path) -> None:
    rows, columns = model_shapes(folder).linear_shapes[LAYER]
    file, name = tmp_path / "a.safetensors", f"transformer.{LAYER}"
    save_file({f"{name}.lora_A.weight": torch.ones(2, columns), f"{name}.lora_B.weight": torch.ones(rows, 2)}, file)
    with pytest.raises(AdapterError, match=r"student\.init_from.*changes context_embedder.* encodes"):
        validate_init_from(StudentPlan.model_validate({"init_from": str(file)}), str(folder))
    spec = TeachersSpec.model_validate({"preset": "specialised-alone", "named": {"mine": {"adapter": str(file)}}})
    with pytest.raises(AdapterError, match=r"teachers\.named\.mine.*changes context_embedder"):
        validate_teachers(spec, 4, str(folder))


def test_a_store_is_of_this_layer_and_a_teacher_with_another_one_is_refused(
    family: str, folder: Path, tmp_path: Path
) -> None:
    MADE[family][1]().save_pretrained(tmp_path)
    file = tmp_path / "transformer" / "diffusion_pytorch_model.safetensors"
    held = load_file(file)
    assert model_summary(tmp_path).fingerprint == model_summary(folder).fingerprint
    save_file(held | {"proj_out.weight": held["proj_out.weight"] + 1}, file)
    assert model_summary(tmp_path).fingerprint == model_summary(folder).fingerprint, "of no other"
    save_file(held | {f"{LAYER}.weight": held[f"{LAYER}.weight"] + 1}, file)
    assert model_summary(tmp_path).fingerprint != model_summary(folder).fingerprint
    spec = TeachersSpec.model_validate({"preset": "specialised-alone", "named": {"other": {"model": str(tmp_path)}}})
    with pytest.raises(ModelError, match=r"teachers\.named\.other.*another context_embedder.*trained with it frozen"):
        validate_teachers(spec, 4, str(folder))
    save_file(held | {"proj_out.weight": held["proj_out.weight"] + 1}, file)
    validate_teachers(spec, 4, str(folder))
