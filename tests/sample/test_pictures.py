"""Latents and pixels that are not finite make no picture, whoever asks for it."""

import pytest
import torch

from fewstep.backbones.embedded import POCKET, POCKET_GUIDANCE
from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.flow.guidance import NO_GUIDANCE, Guidance
from fewstep.flow.rng import NamedRNG
from fewstep.run.pocket_exam import teacher_guidance
from fewstep.runtime.errors import PictureError
from fewstep.sample.pictures import Model, decode_chunked, decode_finite, generate_pictures, open_model

TARGET = (2, 2)


def latents(*broken: int) -> torch.Tensor:
    x0_BND = NamedRNG(0).normal((3, 4, 8), "latents")
    for row in broken:
        x0_BND[row, 1, 2] = float("inf")
    return x0_BND


def test_only_those_at_fault_are_left_out(backbone: QwenImage21) -> None:
    whole = decode_chunked(backbone, latents(), TARGET)
    found = decode_finite(backbone, latents(1), TARGET)
    assert [picture is None for picture in found] == [False, True, False]
    assert found[0] is not None
    assert found[0].tobytes() == whole[0].tobytes()
    assert decode_finite(backbone, latents(0, 1, 2), TARGET) == [None] * 3
    with pytest.raises(PictureError, match="latents are not finite"):
        decode_chunked(backbone, latents(1), TARGET)


@pytest.mark.parametrize(("part", "what"), [("vae", "pixels"), ("transformer", "latents"), ("text_encoder", "latents")])
def test_a_part_that_gives_no_numbers(part: str, what: str) -> None:
    model = Model(QwenImage21.tiny(), 2, NO_GUIDANCE, (32, 32))
    with torch.no_grad():
        for weight in getattr(model.backbone.pipeline, part).parameters():  # type: ignore[attr-defined]
            weight.fill_(float("nan"))
    with pytest.raises(PictureError, match=f"the {what} are not finite numbers"):
        generate_pictures(model, ["a boat"])


def test_the_pocket_teacher_is_sampled_with_the_guidance_that_its_recipe_distils() -> None:
    assert teacher_guidance() == POCKET_GUIDANCE
    model = open_model(POCKET)
    scale = {task: model.guidance_for(task).scale for task in POCKET_GUIDANCE}
    assert scale == {"t2i": 3.0, "edit": 2.5}
    prompt = ["a red house beside a lake"]
    (usual,), (guided,), (unguided,) = (
        generate_pictures(model, prompt, steps=2, guidance=guidance)
        for guidance in (None, Guidance(3.0), Guidance(1.0))
    )
    assert usual.tobytes() == guided.tobytes() != unguided.tobytes()
