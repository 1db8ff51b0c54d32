"""A measured picture is the picture, and its cost is counted."""

import pytest
from PIL import Image

from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.flow.guidance import NO_GUIDANCE, Guidance
from fewstep.runtime.errors import RecipeError
from fewstep.sample.measured import draw_measured
from fewstep.sample.pictures import Model, generate_pictures


def test_they_are_those_of_generate_pictures(backbone: QwenImage21) -> None:
    teacher = Model(backbone, None, Guidance(4.0), (32, 32))
    reference = [Image.new("RGB", (32, 32), "teal")]
    for images in ([], reference):
        drawn = list(draw_measured(teacher, "a boat", images, [5, 6], steps=2, size=(32, 32)))
        alone = generate_pictures(teacher, ["a boat"] * 2, images, [5, 6], steps=2, size=(32, 32))
        assert [each.picture.tobytes() for each in drawn] == [each.tobytes() for each in alone]
        assert [(e.seed, e.steps, e.nfe, e.guidance, e.size) for e in drawn] == [
            (5, 2, 4, 4.0, (32, 32)),
            (6, 2, 4, 4.0, (32, 32)),
        ]
        assert all(each.seconds > 0 for each in drawn)


def test_guidance_of_one_is_none_and_costs_nothing(backbone: QwenImage21) -> None:
    teacher = Model(backbone, None, Guidance(4.0), (32, 32))
    (drawn,) = draw_measured(teacher, "a boat", [], [0], steps=2, guidance=1.0)
    assert (drawn.nfe, drawn.guidance) == (2, 1.0)


def test_a_student_takes_no_steps_and_no_guidance(backbone: QwenImage21) -> None:
    student = Model(backbone, 2, NO_GUIDANCE, (32, 32))
    for options in ({"steps": 3}, {"guidance": 3.0}):
        with pytest.raises(RecipeError, match="Leave --"):
            list(draw_measured(student, "a boat", [], [0], **options))  # type: ignore[arg-type]
