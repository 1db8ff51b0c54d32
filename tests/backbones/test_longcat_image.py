"""LongCat-Image's traps: each is what its stock classes do, shown beside what we do."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from fewstep.backbones.conditioning import stack
from fewstep.backbones.longcat_image import LongCatImage, _spelled
from fewstep.backbones.stock import pipeline_longcat_image
from fewstep.backbones.testing import tiny_longcat_image
from fewstep.flow.guided_velocity import guided
from fewstep.runtime.errors import LayoutError
from tests.backbones.families import EDIT, FAMILIES, SIZE, T2I_UNEQUAL, Request, picture, stock_call

FAMILY = next(family for family in FAMILIES if family.name == "longcat-image")
TWO = "it's a dog that doesn't bark"
SPLIT = "from diffusers.pipelines.longcat_image import pipeline_longcat_image as p; print(p.split_quotation({!r}))"


@pytest.fixture(scope="module")
def backbone() -> Any:
    return LongCatImage.tiny()


def test_two_contractions_are_corrupted_by_the_pipeline() -> None:
    """The second word is lost, whichever of the two that is."""
    whole = "".join(part for part, _ in pipeline_longcat_image.split_quotation(TWO))
    assert whole != TWO
    assert ("doesn't" in whole) != ("it's" in whole)


@pytest.mark.slow
def test_and_differently_from_process_to_process() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", SPLIT.format(TWO)],
            env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(4)
    }
    assert len(found) == 2


def test_they_are_spelled_with_typographic_apostrophes(backbone: Any) -> None:
    """The pipeline reads that whole, and so do we; one word, or one word twice, is left as it is."""
    spelled = "it\u2019s a dog that doesn\u2019t bark"
    assert _spelled(TWO) == spelled
    assert "".join(part for part, _ in pipeline_longcat_image.split_quotation(spelled)) == spelled
    for same in ("it's late", "it's late, it's dark", "write 'it is' on it"):
        assert _spelled(same) == same
    ours, theirs = (backbone.encode([prompt], None, SIZE)[0].text_BLC for prompt in (TWO, spelled))
    assert torch.equal(ours, theirs)
    (stock,) = FAMILY.encoded(backbone, Request("", [spelled]))
    assert torch.equal(ours[0], stock)


def test_quoted_text_is_encoded_by_character(backbone: Any) -> None:
    """With this byte tokenizer both ways give the same tokens, so the pipeline's own split is looked at."""
    parts = pipeline_longcat_image.split_quotation('a sign that says "OPEN"')
    assert parts == [("a sign that says ", False), ('"OPEN"', True)]
    (cond,) = backbone.encode(['a sign that says "OPEN"'], None, SIZE)
    (stock,) = FAMILY.encoded(backbone, Request("", ['a sign that says "OPEN"']))
    assert torch.equal(cond.text_BLC[0], stock)


@pytest.mark.parametrize("edits", [False, True])
def test_a_prompt_that_is_too_long_is_refused(backbone: Any, edits: bool) -> None:
    """Text to image would cut it, and an edit would end with a TypeError."""
    references = [picture(64, 64)] if edits else None
    with pytest.raises(LayoutError, match="600 tokens, and longcat-image reads 512"):
        backbone.encode(["x" * 600], references, SIZE)
    if edits:
        with pytest.raises(TypeError):
            backbone.pipeline.encode_prompt(["x" * 600], picture(64, 64))


@pytest.mark.parametrize("size", [(64, 96), (96, 64), (128, 64)], ids=str)
@pytest.mark.parametrize("asked", [T2I_UNEQUAL, EDIT], ids=lambda r: r.name)
def test_the_guided_velocity_is_the_pipelines_to_a_millionth(
    backbone: Any, asked: Request, size: tuple[int, int]
) -> None:
    """Text to image shortens the tokens that guidance made longer; an edit leaves them."""
    asked = replace(asked, size=size)
    negatives = ["blurry"] * len(asked.prompts)
    steps, _ = stock_call(FAMILY, backbone, asked, **FAMILY.guided(4.5, negatives))
    cond, null = asked.conditioning(backbone), Request("", negatives, asked.shapes, size).conditioning(backbone)
    guidance = backbone.guidance_of(cond.layout.task)
    assert (guidance.scale, guidance.keep_norm) == (4.5, "at-most" if not asked.shapes else False)
    for step in steps:
        v, v_null = (backbone.velocity(backbone.transformer, step.z_BND, step.t_B, c) for c in (cond, null))
        assert (guided(v, v_null, guidance) - step.v_BND).norm() <= 1e-6 * step.v_BND.norm()


def test_an_edit_is_a_megapixel_in_the_references_shape(backbone: Any) -> None:
    for shape in [(1920, 1080), (800, 600), (64, 96), (1024, 1024)]:
        height, width = backbone.edit_size([Image.new("1", shape)], 64 * 64)
        assert (height % 16, width % 16) == (0, 0)
        assert abs(height * width / 1024**2 - 1) < 0.04
        assert abs((width / height) / (shape[0] / shape[1]) - 1) < 0.03
    assert backbone.edit_size([Image.new("1", (1024, 1024))], 1) == (1024, 1024)


def test_the_reference_has_the_targets_size(backbone: Any) -> None:
    for shape in [(90, 70), (64, 200)]:
        (cond,) = backbone.encode(["x"], [picture(*shape)], SIZE)
        assert cond.layout.references == (cond.layout.target,)


def test_a_text_to_image_model_refuses_edits() -> None:
    drawing = LongCatImage.from_pipeline(tiny_longcat_image.longcat_image_pipeline())
    with pytest.raises(LayoutError, match=r"LongCatImagePipeline: it draws from text .* LongCatImageEditPipeline"):
        drawing.encode(["x"], [picture(64, 64)], SIZE)
    assert drawing.task_pipelines("LongCatImagePipeline") == {"t2i": "LongCatImagePipeline"}


def test_prompts_are_never_rewritten() -> None:
    """The class's default has its text encoder rewrite them: neither teacher nor student is called so."""
    assert LongCatImage.student_call(4, SIZE)["enable_prompt_rewrite"] is False
    assert "enable_prompt_rewrite" not in LongCatImage.student_call(4, SIZE, "edit")


def test_unequal_prompts_stack_without_padding(backbone: Any) -> None:
    cond = stack(backbone.encode(T2I_UNEQUAL.prompts, None, SIZE))
    assert cond.text_BLC.shape[1] == 512
    assert not cond.padded
