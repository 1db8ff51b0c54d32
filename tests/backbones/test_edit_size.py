"""Where no size is asked for, an edit lies on the grid of its reference: on another one it would shift."""

import random

from PIL import Image

from fewstep.backbones.flux2_klein import Flux2Klein
from fewstep.backbones.qwen_image import (
    QwenImage,
    pipeline_qwenimage_edit_plus,
    reference_size,
)
from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.backbones.testing import tiny_flux2_klein, tiny_qwen_image

MEGAPIXEL = 1024 * 1024


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
