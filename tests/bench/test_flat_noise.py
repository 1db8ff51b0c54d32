"""The noise metric finds the noise that was put there, and none where none is."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from fewstep.bench.metrics.flat_noise import flat_noise
from fewstep.bench.metrics.metric import (
    Pixels,
    Skipped,
    Values,
)

SIDE = 256
ROUNDING = 1 / 12  # variance of rounding to whole levels


def plain(level: float) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), float(level))


def gradient() -> np.ndarray:
    return np.broadcast_to(np.linspace(60, 180, SIDE)[:, None, None], (SIDE, SIDE, 3)).copy()


def page() -> np.ndarray:
    picture = Image.new("RGB", (SIDE, SIDE), (250, 250, 250))
    draw = ImageDraw.Draw(picture)
    for y, size in ((10, 30), (60, 20), (100, 12)):
        draw.text((20, y), "Some words here", fill="black", font=ImageFont.load_default(size))
    return np.asarray(picture).astype(float)


def noisy(base: np.ndarray, sigma: float, coloured: bool = False) -> Pixels:
    rng = np.random.default_rng(1)
    noise = rng.normal(0, sigma, (*base.shape[:2], 3 if coloured else 1))
    return np.clip(np.round(base + noise), 0, 255).astype(np.uint8)


def found(pixels: Pixels) -> Values:
    values = flat_noise(pixels)
    assert not isinstance(values, Skipped), values
    return values


@pytest.mark.parametrize("sigma", [0.5, 1, 2, 4])
@pytest.mark.parametrize("base", [plain(128), gradient(), page()], ids=["plain", "gradient", "page"])
def test_the_noise_that_was_put_there(base: np.ndarray, sigma: float) -> None:
    """To 8 %: rounding to 8 bits adds its own twelfth of a level squared."""
    assert found(noisy(base, sigma))["luma"] == pytest.approx((sigma**2 + ROUNDING) ** 0.5, rel=0.08)


@pytest.mark.parametrize("level", [0, 1, 253, 255])
def test_clipping_hides_no_noise(level: int) -> None:
    """On white and black half of it is cut off; what is left shows how much there was, to a fifth."""
    for sigma in (0.5, 1, 2, 4):
        assert found(noisy(plain(level), sigma))["luma"] == pytest.approx((sigma**2 + ROUNDING) ** 0.5, rel=0.2)


def test_a_steady_slope_is_flat_however_steep_up_to_its_borders() -> None:
    """3 levels a px, in a small picture, with an edge across: nothing of the slope counts as noise."""
    base = np.broadcast_to(20 + 3.0 * np.arange(72)[:, None, None], (72, 72, 3)).copy()
    base[:, 60:] = 0
    clean, noisy_ = found(noisy(base, 0)), found(noisy(base, 2))
    assert clean["luma"] < 0.35
    assert noisy_["luma"] == pytest.approx(2, rel=0.1)


def test_monotone_in_sigma() -> None:
    for base in (plain(128), plain(255), gradient(), page()):
        values = [found(noisy(base, sigma))["luma"] for sigma in (0, 0.5, 1, 2, 4, 8)]
        assert values == sorted(values)
        assert len(set(values)) == len(values)


def test_what_is_clean_is_clean() -> None:
    assert found(noisy(plain(200), 0))["luma"] == 0
    assert found(noisy(page(), 0))["luma"] < 0.01
    assert found(noisy(gradient(), 0))["luma"] < 0.35  # its rounding


def test_grey_noise_is_luma_and_coloured_noise_both() -> None:
    grey, coloured = found(noisy(plain(128), 2)), found(noisy(plain(128), 2, coloured=True))
    assert grey["chroma"] < 0.05
    assert coloured["chroma"] > 1


def test_bands_separate_grain_from_blotches() -> None:
    grain = found(noisy(plain(128), 2))
    blotch = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(SIDE, SIDE)), 6)
    blotches = found(noisy(128 + (2 * blotch / blotch.std())[..., None].repeat(3, -1), 0))
    assert grain["luma_0_1"] > 5 * grain["luma_8_16"]
    assert blotches["luma_8_16"] > 2 * blotches["luma_0_1"]


@pytest.mark.parametrize("period", [8, 16])
def test_a_lattice_is_found_under_noise_and_named_by_its_period(period: int) -> None:
    y, x = np.indices((SIDE, SIDE))
    lines = (1.5 * ((x % period == 0) | (y % period == 0)))[..., None].repeat(3, -1)
    values = found(noisy(plain(128) + lines, 1))
    without = found(noisy(plain(128), 1))
    assert values[f"lattice_{period}"] > 0.25
    assert max(without["lattice_8"], without["lattice_16"]) < 0.12
    if period == 8:
        assert values["lattice_16"] < 0.12  # every 8 px is not news at every 16


def test_texture_is_not_noise() -> None:
    """Strong noise, gratings, blobs and pictures with a natural spectrum have no flat area."""
    rng = np.random.default_rng(0)
    blobs = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), 3)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE)))
    frequency[0, 0] = 1
    natural = np.fft.ifft2(np.fft.fft2(rng.normal(size=(SIDE, SIDE))) / frequency).real
    textures = {
        "strong noise": rng.normal(0, 40, (SIDE, SIDE)),
        "chessboard": 60.0 * (np.indices((SIDE, SIDE)).sum(0) % 2),
        "grating": 30 * np.sin(2 * np.pi * np.arange(SIDE) / 3)[None].repeat(SIDE, 0),
        "blobs": 30 * blobs / blobs.std(),
        "natural": 30 * natural / natural.std(),
    }
    for name, texture in textures.items():
        assert isinstance(flat_noise(noisy(128 + texture[..., None].repeat(3, -1), 0)), Skipped), name


def test_dense_small_text_is_silent() -> None:
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    for i in range(18):
        ImageDraw.Draw(picture).text((4, 14 * i), "dense tiny text " * 4, fill="black", font=ImageFont.load_default(11))
    values = flat_noise(np.asarray(picture))
    assert isinstance(values, Skipped) or values["luma"] < 0.01


def test_texture_beside_flat_areas_leaks_nothing() -> None:
    base = plain(128)
    base[:, : SIDE // 2] += np.random.default_rng(0).normal(0, 40, (SIDE, SIDE // 2, 1))
    values = found(noisy(base, 0))
    assert values["luma"] < 0.01
    assert 0.3 < values["area"] < 0.5


def test_values_that_have_no_support_are_absent() -> None:
    """A flat area 40 px wide has fine noise, and no band of 16 px."""
    base = plain(128)
    base[40:] += np.random.default_rng(0).normal(0, 60, (SIDE - 40, SIDE, 1))
    values = found(noisy(base, 1))
    assert "luma_0_1" in values
    assert "luma_8_16" not in values
    assert "lattice_16" not in values


@pytest.mark.parametrize("shape", [(1, 1, 3), (8, 300, 3), (64, 64, 3), (101, 203, 3)])
def test_any_size_has_an_answer(shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(120, 124, shape).astype(np.uint8)
    values = flat_noise(pixels)
    assert isinstance(values, Skipped) or 0 < values["luma"] < 3
