"""Pictures damaged in one known way, so that asking to mend them means something. The edit's reference is the degraded
copy, its target the picture itself. Every kind is a function of the picture and a strength in 0..1."""

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageFilter

_Pixels = NDArray[np.float32]  # height x width x 3, 0..1


def degrade(picture: Image.Image, kind: str, strength: float, seed: int) -> Image.Image:
    """The degraded picture. strength: 0 is clearly visible, 1 heavy. The same arguments give the same pixels."""
    pixels = _as_floats(np.asarray(picture.convert("RGB")) / 255)
    worn = DEGRADATIONS[kind](pixels, strength, np.random.Generator(np.random.PCG64(seed)))
    return Image.fromarray((worn.clip(0, 1) * 255 + 0.5).astype(np.uint8))


def _dark(pixels: _Pixels, strength: float, rng: np.random.Generator) -> _Pixels:
    dim = pixels ** (1.6 + strength) * (0.55 - 0.3 * strength)
    return _as_floats(dim + rng.normal(0, 0.012, pixels.shape))  # dark shots are noisy shots


def _bright(pixels: _Pixels, strength: float, rng: np.random.Generator) -> _Pixels:
    return _as_floats(pixels * (1.4 + 0.6 * strength) + 0.05)


def _haze(pixels: _Pixels, strength: float, rng: np.random.Generator) -> _Pixels:
    """Thicker towards the top, where the distance is."""
    height = np.linspace(1, 0.5, len(pixels), dtype=np.float32)[:, None, None]
    veil = (0.5 + 0.35 * strength) * height
    return _as_floats(pixels * (1 - veil) + 0.85 * veil)


def _noise(pixels: _Pixels, strength: float, rng: np.random.Generator) -> _Pixels:
    return _as_floats(pixels + rng.normal(0, 0.06 + 0.1 * strength, pixels.shape))


def _blur(pixels: _Pixels, strength: float, rng: np.random.Generator) -> _Pixels:
    """The radius is a share of the shorter side, so every size is blurred alike."""
    radius = min(pixels.shape[:2]) * (0.006 + 0.008 * strength)
    return _filtered(pixels, lambda image: image.filter(ImageFilter.GaussianBlur(radius)))


def _jpeg(pixels: _Pixels, strength: float, rng: np.random.Generator) -> _Pixels:
    def packed(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, format="JPEG", quality=round(16 - 10 * strength))
        return Image.open(file).convert("RGB")

    return _filtered(pixels, packed)


def _cast(pixels: _Pixels, strength: float, rng: np.random.Generator) -> _Pixels:
    tints = np.array([[1.25, 1, 0.6], [0.65, 0.95, 1.3], [0.75, 1.2, 0.75], [1.2, 0.75, 1.1]], dtype=np.float32)
    tint = tints[int(rng.random() * len(tints))]
    return _as_floats(pixels * (1 + (tint - 1) * (0.6 + 0.4 * strength)))


def _faded(pixels: _Pixels, strength: float, rng: np.random.Generator) -> _Pixels:
    grey = pixels.mean(axis=2, keepdims=True)
    pale = grey + (pixels - grey) * (0.5 - 0.3 * strength)
    return _as_floats(0.3 + 0.08 * strength + pale * (0.5 - 0.1 * strength) + np.array([0.05, 0.03, 0]))


def _small(pixels: _Pixels, strength: float, rng: np.random.Generator) -> _Pixels:
    """Scaled down and up again."""

    def through(image: Image.Image) -> Image.Image:
        scale = 3 + 3 * strength
        size = (max(8, round(image.width / scale)), max(8, round(image.height / scale)))
        return image.resize(size, Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)

    return _filtered(pixels, through)


def _scratched(pixels: _Pixels, strength: float, rng: np.random.Generator) -> _Pixels:
    """Fine near-vertical scratches and specks of dust."""
    height, width = pixels.shape[:2]
    worn = pixels.copy()
    rows = np.arange(height)
    for _ in range(6 + round(10 * strength)):
        drift = rng.normal(0, width * 0.01)
        columns = (rng.random() * width + drift * rows / height + rng.normal(0, 0.4, height)).astype(int)
        there = (columns >= 0) & (columns < width) & (rng.random(height) < 0.9)
        worn[rows[there], columns[there]] = 0.92
    for _ in range(20 + round(40 * strength)):
        y, x, radius = rng.random() * height, rng.random() * width, 1 + rng.random() * min(height, width) * 0.006
        top, left = max(0, int(y - radius)), max(0, int(x - radius))
        worn[top : int(y + radius) + 1, left : int(x + radius) + 1] = 0.08 if rng.random() < 0.5 else 0.95
    return worn


def _filtered(pixels: _Pixels, change: Callable[[Image.Image], Image.Image]) -> _Pixels:
    image = Image.fromarray((pixels.clip(0, 1) * 255 + 0.5).astype(np.uint8))
    return _as_floats(np.asarray(change(image)) / 255)


def _as_floats(pixels: ArrayLike) -> _Pixels:
    return np.asarray(pixels, dtype=np.float32)


DEGRADATIONS: dict[str, Callable[[_Pixels, float, np.random.Generator], _Pixels]] = {
    "dark": _dark,
    "bright": _bright,
    "haze": _haze,
    "noise": _noise,
    "blur": _blur,
    "jpeg": _jpeg,
    "cast": _cast,
    "faded": _faded,
    "small": _small,
    "scratched": _scratched,
}
