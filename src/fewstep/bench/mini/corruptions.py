"""Typical faults of pictures: the sources of repairs. Random draws depend on a name alone."""

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from fewstep.runtime.seeded import seeded_random

_Pixels = NDArray[np.float64]


def _blur(picture: Image.Image, name: str) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(4))


def _motion(picture: Image.Image, name: str) -> Image.Image:
    """The camera moved sideways by 19 px."""
    pixels = _levels(picture)
    moved = np.mean([np.roll(pixels, shift, axis=1) for shift in range(-9, 10)], axis=0)
    return _picture(moved)


def _noise(picture: Image.Image, name: str) -> Image.Image:
    pixels = _levels(picture)
    return _picture(pixels + _draws(name).normal(0, 32, pixels.shape))


def _dark(picture: Image.Image, name: str) -> Image.Image:
    """Three stops too dark, with the noise that comes with it."""
    pixels = _levels(picture) * 0.16
    return _picture(pixels + _draws(name).normal(0, 2.5, pixels.shape))


def _bright(picture: Image.Image, name: str) -> Image.Image:
    """Too much light; not all of it is clipped."""
    return _picture(_levels(picture) * 1.25 + 55)


def _faded(picture: Image.Image, name: str) -> Image.Image:
    """An old print: little colour, little contrast, yellow."""
    pale = ImageEnhance.Contrast(ImageEnhance.Color(picture).enhance(0.35)).enhance(0.55)
    return _picture(_levels(pale) * np.array([1.04, 0.98, 0.8]) + np.array([16, 10, 0]))


def _tinted(picture: Image.Image, name: str) -> Image.Image:
    """A wrong white balance: everything blue."""
    return _picture(_levels(picture) * np.array([0.68, 0.86, 1.18]))


def _blocks(picture: Image.Image, name: str) -> Image.Image:
    """JPEG at quality 6, at half the size and back."""
    small = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    kept = io.BytesIO()
    small.save(kept, "JPEG", quality=6)
    with Image.open(kept) as opened:
        return opened.convert("RGB").resize(picture.size, Image.Resampling.NEAREST)


def _tiny(picture: Image.Image, name: str) -> Image.Image:
    """Enlarged from 3 / 16 of the size: 96 px of 512."""
    width, height = (max(1, 3 * side // 16) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BOX).resize(picture.size, Image.Resampling.BILINEAR)


def _scratches(picture: Image.Image, name: str) -> Image.Image:
    """White scratches and dust."""
    worn, rng = picture.copy(), seeded_random("scratches", name)
    pen, (width, height) = ImageDraw.Draw(worn), picture.size
    for _ in range(14):
        x, y, lean = rng.uniform(0, width), rng.uniform(0, 0.78 * height), rng.uniform(-30, 30)
        pen.line([(x, y), (x + lean, y + rng.uniform(60, 240))], (244, 242, 236), rng.choice((1, 2, 2, 3)))
    for _ in range(90):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.8, 3)
        pen.ellipse((x - r, y - r, x + r, y + r), (244, 242, 236))
    return worn


def _haze(picture: Image.Image, name: str) -> Image.Image:
    """Fog, thicker towards the top."""
    thick = np.linspace(0.85, 0.5, picture.height)[:, None, None]
    return _picture(_levels(picture) * (1 - thick) + 214 * thick)


CORRUPTIONS: dict[str, Callable[[Image.Image, str], Image.Image]] = {
    "blur": _blur,
    "motion": _motion,
    "noise": _noise,
    "dark": _dark,
    "bright": _bright,
    "faded": _faded,
    "tinted": _tinted,
    "blocks": _blocks,
    "tiny": _tiny,
    "scratches": _scratches,
    "haze": _haze,
}


def _levels(picture: Image.Image) -> _Pixels:
    return np.asarray(picture, dtype=np.float64)


def _picture(levels: _Pixels) -> Image.Image:
    return Image.fromarray(levels.clip(0, 255).round().astype(np.uint8))


def _draws(name: str) -> np.random.Generator:
    return np.random.default_rng(seeded_random("harm", name).getrandbits(63))
