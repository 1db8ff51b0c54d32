"""Which models may not teach, and what is said of their licences, before the first long step."""

from pathlib import Path
from typing import Any

import pytest

from fewstep.backbones.embedded import EMBEDDED
from fewstep.backbones.fake_model import size_of_model
from fewstep.backbones.families import load_backbone
from fewstep.backbones.folder import sample_sigmas
from fewstep.backbones.model_door import refuse_no_model
from fewstep.backbones.testing import tiny_flux2_klein, tiny_flux3, tiny_longcat_image, tiny_z_image
from fewstep.roles.plan import TeachersSpec
from fewstep.run.teacher_terms import (
    licence_of_model,
    models_of,
    refuse_distilled,
    refuse_untaught_tasks,
    tell_licences,
)
from fewstep.runtime.errors import ModelError, RecipeError
from fewstep.runtime.reporter import Silent


class Heard(Silent):
    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def say(self, text: str, kind: str = "note") -> None:
        self.said.append((kind, text))


def saved(pipeline: Any, to: Path) -> str:
    pipeline.save_pretrained(to)
    return str(to)


def test_a_distilled_model_is_refused_with_the_one_to_take(tmp_path: Path) -> None:
    turbo = saved(tiny_z_image.z_image_pipeline(shift=3.0), tmp_path / "a")
    with pytest.raises(RecipeError, match=r"^model: .* is Z-Image-Turbo .* Take Tongyi-MAI/Z-Image"):
        refuse_distilled({"model": turbo})
    klein = saved(tiny_flux2_klein.flux2_klein_pipeline(is_distilled=True), tmp_path / "b")
    with pytest.raises(RecipeError, match=r"^teachers\.named\.x\.model: .* Take the base model of its size"):
        refuse_distilled({"model": "pocket", "teachers.named.x.model": klein})
    refuse_distilled({"model": saved(tiny_z_image.z_image_pipeline(), tmp_path / "c")})


def test_a_distilled_flux3_cannot_even_be_opened(tmp_path: Path) -> None:
    """Its transformer asks where each step ends, which no teacher and no student here is told."""
    folder = saved(tiny_flux3.flux3_pipeline(flow_map=True), tmp_path / "d")
    named = r"is a distilled FLUX 3 \(flow_map .* Take black-forest-labs/flux-3-image-klein-base"
    with pytest.raises(RecipeError, match=named):
        refuse_distilled({"model": folder})
    with pytest.raises(ModelError, match=named):
        load_backbone(folder)


def test_a_modular_folder_needs_its_index(tmp_path: Path) -> None:
    folder = saved(tiny_flux3.flux3_pipeline(), tmp_path / "m")
    (tmp_path / "m" / "modular_model_index.json").unlink()
    for opened in (load_backbone, refuse_no_model, sample_sigmas, size_of_model):
        with pytest.raises(ModelError, match=r"modular_model_index\.json is missing: transformer holds a Flux3"):
            opened(Path(folder) if opened is sample_sigmas else folder)


def test_edits_need_a_model_that_edits(tmp_path: Path) -> None:
    z_image = {"model": saved(tiny_z_image.z_image_pipeline(), tmp_path / "z")}
    with pytest.raises(RecipeError, match=r"tasks\.edit: .*ZImagePipeline\) draws from text alone; no model"):
        refuse_untaught_tasks(z_image, ("t2i", "edit"))
    refuse_untaught_tasks(z_image, ("t2i",))
    longcat = {"model": saved(tiny_longcat_image.longcat_image_pipeline(), tmp_path / "l")}
    with pytest.raises(RecipeError, match=r"take a model of LongCatImageEditPipeline, or set tasks\.edit=0"):
        refuse_untaught_tasks(longcat, ("t2i", "edit"))


def test_a_teacher_for_research_is_told_of(tmp_path: Path) -> None:
    model = saved(tiny_z_image.z_image_pipeline(), tmp_path / "z")
    heard = Heard()
    tell_licences({"model": model}, heard)
    assert heard.said == []
    (tmp_path / "z" / "README.md").write_text("---\nlicense: other\nlicense_name: some-research-licence\n---\n")
    tell_licences({"model": model}, heard)
    ((kind, text),) = heard.said
    assert kind == "warning"
    assert "some-research-licence: no commercial use, neither of the model nor of a student" in text


def test_only_models_that_teach_count() -> None:
    named = {"used": {"model": "a", "anchor": True, "tasks": ["t2i"]}, "lora": {"adapter": "x.safetensors"}}
    spec = TeachersSpec.model_validate({"named": named})
    assert models_of("base", spec, 4) == {"model": "base", "teachers.named.used.model": "a"}


def test_the_pocket_states_its_own() -> None:
    for name in EMBEDDED:
        assert licence_of_model(name).licence.commercial is True
