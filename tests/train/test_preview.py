"""The contact sheets of a run: whose pictures stand beside the student's, and what of a case is shown."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.families import load_backbone, model_shapes
from fewstep.backbones.testing import tiny_qwen_image_21
from fewstep.data.cases import Case
from fewstep.data.pictures import open_picture
from fewstep.flow.rng import NamedRNG
from fewstep.flow.sigmas import SigmaGrid
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.plan import AdapterPlan, CriticPlan, StudentPlan, TeachersSpec
from fewstep.roles.roles import Roles
from fewstep.sample.origin import origin_of
from fewstep.train.preview import PreviewCase, SamplePreview

SIZE = (64, 64)
SMALL = AdapterPlan(rank=2, alpha=2.0)
STEPS = 2  # of the teachers: the family's 40 would take seconds
GRID = SigmaGrid.static(2, 3.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen-Image-2.1 with a user's LoRA beside it."""
    folder = tmp_path_factory.mktemp("model")
    tiny_qwen_image_21.qwen_image_21_pipeline(0).save_pretrained(folder / "base")
    made = {}
    for module, (rows, columns) in model_shapes(folder / "base").linear_shapes.items():
        if module.endswith("attn.to_v"):
            made[f"transformer.{module}.lora_A.weight"] = torch.full((2, columns), 1.0)
            made[f"transformer.{module}.lora_B.weight"] = torch.full((rows, 2), 1.0)
    save_file(made, folder / "mine.safetensors")
    return folder


def roles_of(backbone: Backbone, model: Path, **teachers: Any) -> Roles:
    mine: dict[str, Any] = {"adapter": str(model / "mine.safetensors"), "guidance": {"t2i": {"scale": 4.0}}}
    spec = TeachersSpec.model_validate(
        {"named": {"mine": mine}, "base": {"guidance": {"t2i": {"scale": 4.0}}}} | teachers
    )
    return build_roles(backbone, RolesSpec(StudentPlan(adapter=SMALL), CriticPlan(adapter=SMALL), spec, 4), NamedRNG(0))


def previewed(backbone: Backbone, roles: Roles, folder: Path, *cases: Case) -> SamplePreview:
    shown = []
    for case in cases:
        sources = tuple(open_picture(path, case.where) for path in case.references)
        told = [source.convert("RGB") for source in sources] or None
        guidance = roles.teachers.of_task(case.task, case.category).guidance[case.task]
        negative = backbone.encode([guidance.negative], told, SIZE)[0] if guidance.active else None
        own, taught = backbone.encode([case.prompt, case.taught_prompt], told, SIZE)
        shown.append(PreviewCase(case, own, taught, negative, sources))
    return SamplePreview(roles, shown, GRID, "fp32", folder)


def opened(model: Path) -> Backbone:
    backbone = load_backbone(str(model / "base"), dtype=torch.float32)
    backbone.default_steps = STEPS
    return backbone


HOUSE = Case("a1", "t2i", "a red house", "landscape")


def test_the_teacher_beside_the_student_is_the_users_lora_and_is_named(model: Path, tmp_path: Path) -> None:
    """As under `my-lora`: the base anchors the first steps, the LoRA alone decides the last."""
    backbone = opened(model)
    roles = roles_of(backbone, model, preset="step-wise", lam_max=1.0)
    preview = previewed(backbone, roles, tmp_path / "mine", HOUSE)
    preview.render(0)
    taught = tmp_path / "mine" / "pictures" / "teacher-00.png"
    assert origin_of(taught) == "teacher mine, 2 steps, guidance 4"

    base = roles_of(opened(model), model, preset="base-only")
    alone = previewed(base.student.backbone, base, tmp_path / "base", HOUSE)
    alone.render(0)
    of_base = tmp_path / "base" / "pictures" / "teacher-00.png"
    assert origin_of(of_base) == "teacher, 2 steps, guidance 4"
    apart = np.abs(np.asarray(Image.open(taught), float) - np.asarray(Image.open(of_base), float))
    assert apart.max() > 0, "the LoRA is on"


def test_a_teachers_picture_is_drawn_once_and_again_for_another_teacher(model: Path, tmp_path: Path) -> None:
    backbone = opened(model)
    preview = previewed(backbone, roles_of(backbone, model, preset="base-only"), tmp_path, HOUSE)
    preview.render(0)
    taught = tmp_path / "pictures" / "teacher-00.png"
    before = taught.stat().st_mtime_ns
    preview.render(1)
    assert taught.stat().st_mtime_ns == before
    Image.open(taught).convert("RGB").save(taught)  # as an older version left it: nobody knows whose it is
    preview.render(2)
    assert origin_of(taught) == "teacher, 2 steps, guidance 4"


def test_the_teacher_at_few_steps_draws_as_the_untrained_student(model: Path, tmp_path: Path) -> None:
    """At its levels, without guidance, from its noise: a student that is still the base draws the same picture."""
    backbone = opened(model)
    preview = previewed(backbone, roles_of(backbone, model, preset="base-only"), tmp_path, HOUSE)
    preview.render(0)
    few, taught, student = (tmp_path / "pictures" / f"{who}-00.png" for who in ("few", "teacher", "student-000000"))
    assert origin_of(few) == "teacher, 2 steps, no guidance"
    (told,) = json.loads((tmp_path / "cases.json").read_text())
    assert (told["id"], told["seed"], told["size"]) == ("a1", 0, [64, 64])
    same, other = (np.array_equal(Image.open(few), Image.open(path)) for path in (student, taught))
    assert same
    assert not other
    before = few.stat().st_mtime_ns, taught.stat().st_mtime_ns
    few.unlink()  # as a run of an older version left it
    preview.render(1)
    assert origin_of(few) == "teacher, 2 steps, no guidance"
    assert taught.stat().st_mtime_ns == before[1]


def test_all_references_are_shown_in_order(model: Path, tmp_path: Path) -> None:
    paths = []
    for colour in ("red", "blue"):
        Image.new("RGB", SIZE, colour).save(tmp_path / f"{colour}.png")
        paths.append(tmp_path / f"{colour}.png")
    both = Case("b1", "edit", "the boat of picture 2 in picture 1", "object", references=tuple(paths))
    backbone = opened(model)
    previewed(backbone, roles_of(backbone, model, preset="base-only"), tmp_path, HOUSE, both).render(0)
    sheet = np.asarray(Image.open(tmp_path / "iteration-000000.png").convert("RGB"))
    red, blue = (np.argwhere((sheet == colour).all(-1)) for colour in ((255, 0, 0), (0, 0, 255)))
    assert len(red) == len(blue) == 192**2
    assert red[:, 1].max() < blue[:, 1].min(), "the first reference stands left of the second"
    assert red[:, 0].min() == blue[:, 0].min()


@pytest.mark.parametrize(
    ("teachers", "task", "category", "name"),
    [
        ({"preset": "step-wise", "lam_max": 1.0}, "t2i", "landscape", "mine"),
        ({"preset": "step-wise", "lam_max": 0.5}, "t2i", "landscape", "base"),
        ({"preset": "step-wise", "lam_max": 0.6}, "edit", "scene", "mine"),
        ({"preset": "base-only"}, "t2i", "landscape", "base"),
    ],
)
def test_the_teacher_of_a_case_is_the_one_that_decides_its_details(
    teachers: dict[str, Any], task: Any, category: str, name: str, model: Path
) -> None:
    backbone = opened(model)
    assert roles_of(backbone, model, **teachers).teachers.of_task(task, category).network.name == name


def test_a_teacher_of_some_categories_is_that_of_their_cases(model: Path) -> None:
    backbone, adapter = opened(model), str(model / "mine.safetensors")
    anchor = {"adapter": adapter, "anchor": True, "categories": ["portrait"]}
    roles = roles_of(backbone, model, named={"mine": anchor})
    found = [roles.teachers.of_task("t2i", category).network.name for category in ("portrait", "landscape", None)]
    assert found == ["mine", "base", "base"]


def test_what_is_no_picture_is_left_empty_and_the_run_goes_on(model: Path, tmp_path: Path) -> None:
    backbone = opened(model)
    roles = roles_of(backbone, model, preset="base-only")
    preview = previewed(backbone, roles, tmp_path, HOUSE, Case("a2", "t2i", "a boat", "landscape"))
    preview.render(1)
    with torch.no_grad():
        for weight in roles.student.named_parameters().values():
            weight.fill_(float("nan"))
    preview.render(2)
    drawn = sorted(file.name for file in (tmp_path / "pictures").iterdir())
    assert drawn == [f"{who}-{i:02d}.png" for who in ("few", "student-000001", "teacher") for i in range(2)]
    widths = []
    for done in (1, 2):
        with Image.open(tmp_path / f"iteration-{done:06d}.png") as sheet:
            widths.append(sheet.width)
    assert widths[1] < widths[0], "a column without any picture is left out"
