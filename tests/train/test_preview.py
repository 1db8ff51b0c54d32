"""The previews of a run, where a network gives numbers that are not finite: the run goes on, the cell stays empty."""

from pathlib import Path

import torch
from PIL import Image

from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.flow.rng import NamedRNG
from fewstep.flow.sigmas import SigmaGrid
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.plan import AdapterPlan, CriticPlan, StudentPlan, TeachersSpec
from fewstep.train.preview import PreviewCase, SamplePreview


def test_what_is_no_picture_is_left_empty(tmp_path: Path) -> None:
    backbone, small = QwenImage21.tiny(), AdapterPlan(rank=2, alpha=2.0)
    spec = RolesSpec(StudentPlan(adapter=small), CriticPlan(adapter=small), TeachersSpec(), 4)
    roles = build_roles(backbone, spec, NamedRNG(0))
    conds = backbone.encode(["a boat", "a house"], None, (32, 32))
    cases = [PreviewCase(cond, None, caption, None) for cond, caption in zip(conds, ("boat", "house"), strict=True)]
    preview = SamplePreview(roles, cases, SigmaGrid.static(2, 3.0), "fp32", tmp_path)
    preview.render(1)
    with torch.no_grad():
        for weight in roles.student.named_parameters().values():
            weight.fill_(float("nan"))
    preview.render(2)
    drawn = sorted(file.name for file in (tmp_path / "pictures").iterdir())
    assert drawn == ["student-000001-00.png", "student-000001-01.png", "teacher-00.png", "teacher-01.png"]
    widths = []
    for done in (1, 2):
        with Image.open(tmp_path / f"iteration-{done:06d}.png") as sheet:
            widths.append(sheet.width)
    assert widths[1] < widths[0], "a column without any picture is left out"
