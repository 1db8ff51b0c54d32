"""Where no size is asked for, an edit lies on the grid of its reference: on another one it would shift. Training,
sampling, planning and the stock pipelines agree on it."""

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fewstep.backbones.conditioning_estimate import estimate_conditioning
from fewstep.backbones.edit_sizes import at_area, flux3_grid, klein_fault, klein_size, longcat_size
from fewstep.backbones.flux2_klein import Flux2Klein, _own_size
from fewstep.backbones.flux3_klein import Flux3Klein
from fewstep.backbones.longcat_image import LongCatImage
from fewstep.backbones.qwen_image import (
    QwenImage,
    pipeline_qwenimage_edit_plus,
    reference_size,
)
from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.backbones.stock import calculate_dimensions, pipeline_longcat_image_edit
from fewstep.backbones.testing import tiny_flux2_klein, tiny_qwen_image
from fewstep.data.case_sizes import CaseSizes
from fewstep.data.cases import Case
from fewstep.data.pictures import open_picture
from fewstep.data.plan import SizesPlan
from fewstep.flow.guidance import NO_GUIDANCE
from fewstep.sample.pictures import Model
from tests.backbones.families import FAMILIES, Family

EDITING = [family for family in FAMILIES if family.references]
MEGAPIXEL = 1024 * 1024
SIZE = (64, 64)


def shapes(count: int) -> list[Image.Image]:
    chance = random.Random(0)
    sides = [(chance.randrange(256, 2600), chance.randrange(256, 2600)) for _ in range(count)]
    return [Image.new("1", size) for size in [*sides, (1920, 1080), (800, 600), (640, 1180), (64, 2048)]]


def test_of_qwen_image_21() -> None:
    backbone = QwenImage21.tiny()
    for image in shapes(500):
        for area in (MEGAPIXEL, 768 * 768):
            size = backbone.edit_size([image], area)
            assert backbone._reference_size(image, size) == size, image.size
            assert abs(size[0] * size[1] / area - 1) < 0.2 or min(size) < 400


def test_of_qwen_image() -> None:
    backbone = QwenImage.from_pipeline(tiny_qwen_image.qwen_image_edit_pipeline())
    for image in shapes(500):
        assert backbone.edit_size([image], pipeline_qwenimage_edit_plus.VAE_IMAGE_SIZE) == reference_size(image)
    assert backbone.edit_size([Image.new("1", (1920, 1080))], MEGAPIXEL) == (768, 1376)


def test_of_longcat_image() -> None:
    """As the stock call has it: the first reference's shape at a megapixel, whatever is asked for."""
    for image in shapes(500):
        width, height = pipeline_longcat_image_edit.calculate_dimensions(MEGAPIXEL, image.width / image.height)
        for area in (MEGAPIXEL, 768 * 768):
            others = (image.height, image.width), (64, 64)
            assert LongCatImage.size_of_edit(others, area) == longcat_size(others[0]) == (height, width)


def test_of_flux2_klein() -> None:
    """As the stock call has it: the first reference's own size, a megapixel at most."""
    backbone = Flux2Klein.from_pipeline(tiny_flux2_klein.flux2_klein_pipeline())
    size = backbone.edit_size([Image.new("RGB", (100, 80)), Image.new("RGB", (64, 64))], MEGAPIXEL)
    assert size == (
        80 // backbone.size_multiple * backbone.size_multiple,
        100 // backbone.size_multiple * backbone.size_multiple,
    )
    image = Image.new("RGB", (100, 80), "teal")
    layout = backbone.encode(["blue"], [image], backbone.edit_size([image], 1))[0].layout
    assert layout.target == layout.references[0]
    height, width = backbone.edit_size([Image.new("1", (3000, 2000))], MEGAPIXEL)
    assert 0.95 * MEGAPIXEL < height * width <= MEGAPIXEL


def test_of_flux3() -> None:
    """As the stock call has it: one reference whole, in whole tokens, up to 4 megapixels; of several each cropped."""
    processor = Flux3Klein.tiny().pipeline.image_processor
    odd = [(2048, 2048), (2050, 2046), (2047, 2049), (4095, 1025), (5000, 300), (30, 90), (4200, 64), (1, 1)]
    pictures = [*shapes(40), *(Image.new("1", shape) for shape in odd)]
    for image in pictures:
        resized = processor._resize_if_canvas_exceeds_area(image)
        canvas = processor._get_canvas_height_width(resized.height, resized.width)
        assert Flux3Klein.size_of_edit([(image.height, image.width)], 1) == canvas
        assert flux3_grid((image.height, image.width), 1) == canvas
    for image in shapes(3):
        own, _ = processor.preprocess(image, resize_mode="crop")
        pair = [(image.height, image.width), (64, 64)]
        assert Flux3Klein.size_of_edit(pair, 1) == flux3_grid(pair[0], 2) == own.shape[2:]


# ---- the rules without pictures, against the stock functions


def test_the_rules_are_the_stock_functions() -> None:
    klein = Flux2Klein.from_pipeline(tiny_flux2_klein.flux2_klein_pipeline()).pipeline
    for image in shapes(300):
        for area in (MEGAPIXEL, 512 * 512, 4096):
            for stock in (calculate_dimensions, pipeline_qwenimage_edit_plus.calculate_dimensions):
                width, height = stock(area, image.width / image.height)[:2]
                assert at_area((image.height, image.width), area) == (height, width)
        image = image.convert("L")
        assert klein_size((image.height, image.width)) == _own_size(klein, image)[1]
        refused = klein_fault((image.height, image.width)) is not None
        try:
            klein.image_processor.check_image_input(image)
        except ValueError:
            assert refused
        else:
            assert not refused


@pytest.mark.parametrize("family", EDITING, ids=lambda family: family.name)
def test_an_estimate_says_what_the_family_says(family: Family, tmp_path: Path) -> None:
    backbone = family.make()
    backbone.pipeline.save_pretrained(tmp_path)
    estimate = estimate_conditioning(str(tmp_path))
    for image, other in zip(shapes(60), reversed(shapes(60)), strict=True):
        pictures = [(other.height, other.width), (image.height, image.width)]
        for area in (MEGAPIXEL, 256 * 320):
            assert estimate.size_of_edit(pictures, area) == backbone.size_of_edit(pictures, area)
            assert backbone.edit_size([other, image], area) == backbone.size_of_edit(pictures, area)
        assert estimate.reference_fault(pictures[1]) == backbone.reference_fault(pictures[1])


# ---- one case, trained, sampled, in a gallery, and by the stock call itself

SHAPES = [[(96, 96)], [(160, 80)], [(80, 150)], [(96, 96), (160, 80)], [(160, 80), (96, 96), (66, 100)]]


def pairs() -> Iterator[Any]:
    """LongCat-Image edits at a megapixel, whatever the picture: seconds each."""
    for family in EDITING:
        for pictures in SHAPES:
            slow = family.name == "longcat-image" and pictures != [(160, 80)]
            if len(pictures) <= family.references:
                yield pytest.param(family, pictures, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize(
    ("family", "pictures"),
    list(pairs()),
    ids=lambda given: given.name if isinstance(given, Family) else str(given),
)
def test_a_case_is_trained_at_the_layout_that_it_is_sampled_at(
    family: Family, pictures: list[tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With real classes in small. The 20 B brings references to a fixed area, here that of the small size."""
    monkeypatch.setattr(pipeline_qwenimage_edit_plus, "VAE_IMAGE_SIZE", SIZE[0] * SIZE[1])
    monkeypatch.setattr(pipeline_qwenimage_edit_plus, "CONDITION_IMAGE_SIZE", SIZE[0] * SIZE[1])
    for n, shape in enumerate(pictures):
        Image.new("RGB", shape, (40 * n, 90, 10)).save(tmp_path / f"{n}.png")
    case = Case("e", "edit", "make it night", references=tuple(tmp_path / f"{n}.png" for n in range(len(pictures))))
    backbone = family.make()
    opened = [open_picture(path, "") for path in case.references]

    size = CaseSizes(SizesPlan.model_validate({}), SIZE, 0, type(backbone)).of(case)
    (trained,) = backbone.encode([case.prompt], opened, size)

    model = Model(backbone, None, NO_GUIDANCE, SIZE)
    assert model.default_size(opened) == size, "`sample` and `serve`"
    drawn = stock_size(family, backbone, opened, family.words(size), monkeypatch)
    if family.name == "flux3-klein" and len(pictures) == 1:  # it crops what it padded off again
        drawn = (math.ceil(drawn[0] / 16) * 16, math.ceil(drawn[1] / 16) * 16)
    assert drawn == size
    follows = trained.layout.references[0 if family.name.startswith("flux") else -1]
    assert trained.layout.target == follows, "on its reference's grid"


def stock_size(
    family: Family, backbone: object, opened: list[Image.Image], words: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> tuple[int, int]:
    """(height, width) that the stock call draws without being told a size."""
    stock = pipeline_qwenimage_edit_plus.calculate_dimensions
    scale = MEGAPIXEL // (SIZE[0] * SIZE[1])  # its megapixel is written into the call
    monkeypatch.setattr(
        pipeline_qwenimage_edit_plus,
        "calculate_dimensions",
        lambda area, ratio: stock(area // scale if area == MEGAPIXEL else area, ratio),
    )
    drawn = family.pipeline(backbone, True)(
        prompt="make it night", image=[family.given(image) for image in opened], num_inference_steps=2, **words
    ).images[0]
    monkeypatch.setattr(pipeline_qwenimage_edit_plus, "calculate_dimensions", stock)
    return drawn.height, drawn.width
