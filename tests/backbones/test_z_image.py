"""Z-Image's traps: each is what its stock classes do, shown beside what we do."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fewstep.backbones.families import family_of
from fewstep.backbones.testing import tiny_z_image
from fewstep.backbones.z_image import ZImage
from fewstep.flow.guided_velocity import guided
from fewstep.runtime.errors import LayoutError
from tests.backbones.families import FAMILIES, SIZE, T2I_UNEQUAL, Request, picture, stock_call

FAMILY = next(family for family in FAMILIES if family.name == "z-image")


def test_the_callers_prompts_stay_as_they_are() -> None:
    """The pipeline writes its template into the list that it is given."""
    backbone, theirs, ours = ZImage.tiny(), ["a boat"], ["a boat"]
    backbone.pipeline.encode_prompt(theirs, do_classifier_free_guidance=False)
    backbone.encode(ours, None, SIZE)
    assert theirs[0].startswith("<|im_start|>user")
    assert ours == ["a boat"]


@pytest.mark.parametrize("scale", [1.0, 3.5])
@pytest.mark.parametrize("size", [(64, 96), (96, 64), (128, 64)], ids=str)
def test_the_velocity_is_the_pipelines_to_a_millionth(size: tuple[int, int], scale: float) -> None:
    """Unequal prompts, unequal negatives. Its guidance w is our scale less 1: at 0 it does not guide."""
    backbone, asked = ZImage.tiny(), replace(T2I_UNEQUAL, size=size)
    negatives = ["blurry", "", "grey and dull, as on a rainy day"]
    steps, _ = stock_call(FAMILY, backbone, asked, **FAMILY.guided(scale, negatives))
    cond, null = asked.conditioning(backbone), Request("", negatives, (), size).conditioning(backbone)
    guidance = replace(backbone.default_guidance, scale=scale)
    for step in steps:
        v, v_null = (backbone.velocity(backbone.transformer, step.z_BND, step.t_B, c) for c in (cond, null))
        v = guided(v, v_null, guidance) if guidance.active else v
        assert (v - step.v_BND).norm() <= 1e-6 * step.v_BND.norm()


def test_its_norm_cap_is_ours_of_the_whole_picture() -> None:
    backbone, negatives = ZImage.tiny(), ["blurry"] * 3
    asked = FAMILY.guided(9.0, negatives) | {"cfg_normalization": True}
    capped, _ = stock_call(FAMILY, backbone, T2I_UNEQUAL, **asked)
    cond, null = T2I_UNEQUAL.conditioning(backbone), Request("", negatives).conditioning(backbone)
    guidance = replace(backbone.default_guidance, scale=9.0, keep_norm="picture-at-most")
    step = capped[0]
    v, v_null = (backbone.velocity(backbone.transformer, step.z_BND, step.t_B, c) for c in (cond, null))
    ours = guided(v, v_null, guidance)
    assert (ours - step.v_BND).norm() <= 3e-6 * step.v_BND.norm()  # guidance 9 multiplies what two branches round
    assert (ours - guided(v, v_null, replace(guidance, keep_norm=False))).norm() > 1e-2 * ours.norm()


def test_references_are_refused() -> None:
    with pytest.raises(LayoutError, match="draws from text and takes no references"):
        ZImage.tiny().encode(["x"], [picture(64, 64)], SIZE)


def test_a_distilled_folder_says_so(tmp_path: Path) -> None:
    for name, shift, taken in [("base", 6.0, False), ("mine", 3.0, True), ("Z-Image-Turbo", 6.0, True)]:
        tiny_z_image.z_image_pipeline(shift=shift).save_pretrained(tmp_path / name)
        found = family_of(tmp_path / name).distilled(tmp_path / name)
        assert (found is not None) == taken
        assert found is None or "Take Tongyi-MAI/Z-Image" in found


def test_what_is_drawn_is_float32_in_every_dtype() -> None:
    assert ZImage.tiny().noise_dtypes("t2i", torch.bfloat16) == (torch.float32, torch.float32)
