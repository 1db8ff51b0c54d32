"""Edits: shifts by known parts of a pixel, any share of the picture masked, no-ops, sizes."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from fewstep.bench.metrics.metric import Pixels, Skipped
from fewstep.bench.metrics.preserve import (
    MOST_PSNR,
    Pair,
    pair_of,
    preserve,
)
from fewstep.bench.metrics.registration import register

SIDE = 128


def world(seed: int = 0) -> np.ndarray:
    """Twice the side, with the spectrum of pictures, so that views of it move without new borders."""
    n = 2 * SIDE
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(n), np.fft.fftfreq(n)))
    frequency[0, 0] = 1
    x = np.fft.ifft2(np.fft.fft2(np.random.default_rng(seed).normal(size=(n, n))) / frequency**1.3).real
    return 128 + 40 * x / x.std()


WORLD = world()


def view(right: float = 0, down: float = 0, zoom: float = 1) -> Pixels:
    y, x = np.mgrid[:SIDE, :SIDE]
    centre = (SIDE - 1) / 2
    at = [(y - centre - down) / zoom + centre + SIDE / 2, (x - centre - right) / zoom + centre + SIDE / 2]
    grey = np.clip(np.round(ndimage.map_coordinates(WORLD, at, order=3)), 0, 255).astype(np.uint8)
    return np.stack([grey, 255 - grey, grey // 2 + 60], axis=-1)


def region(share: float) -> np.ndarray:
    """A square of this share, off centre."""
    side = round(SIDE * share**0.5)
    mask = np.zeros((SIDE, SIDE), bool)
    corner = (SIDE - side) // 3
    mask[corner : corner + side, corner : corner + side] = True
    return mask


def edited(picture: Pixels, mask: np.ndarray) -> Pixels:
    changed = picture.copy()
    changed[mask] = np.random.default_rng(1).integers(0, 255, (int(mask.sum()), 3))
    return changed


def measured(picture: Pixels, source: Pixels, mask: np.ndarray | None = None) -> dict[str, float]:
    found = preserve(Pair(picture, source, None if mask is None else ~mask, None))
    assert not isinstance(found, Skipped)
    return found


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_what_happens_in_the_region_costs_nothing(share: float) -> None:
    found = measured(edited(view(), region(share)), view(), region(share))
    assert found["psnr"] == MOST_PSNR
    assert share == 0.9 or found["ssim"] == pytest.approx(1)  # of 0.9, no window is left
    assert found["colour"] == pytest.approx(0, abs=1e-6)
    assert found["shift"] == pytest.approx(0, abs=0.01)
    assert (found["no_op"], found["change"] > 10) == (0, True)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_same_damage_outside_costs_the_same_whatever_the_region(share: float) -> None:
    """A mask filled with zeros would make large regions look better preserved."""
    damaged = np.clip(view().astype(int) + 12, 0, 255).astype(np.uint8)
    found = measured(edited(damaged, region(share)), view(), region(share))
    assert found["psnr"] == pytest.approx(20 * np.log10(255 / 12), abs=0.2)
    assert found["tint"] > 2


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
@pytest.mark.parametrize(("right", "down"), [(0.25, -0.4), (1.5, 2.25), (-7.3, 5.6)])
def test_shifts_by_known_parts_of_a_pixel(share: float, right: float, down: float) -> None:
    mask = region(share)
    found = measured(edited(view(right, down), mask), view(), mask)
    assert found["shift"] == pytest.approx(np.hypot(right, down), abs=0.05)
    assert found["zoom"] < 0.2


def test_the_direction_of_a_shift_and_a_zoom() -> None:
    keep = np.ones((SIDE, SIDE), bool)
    grey = [x[..., 0].astype(float) for x in (view(1.5, -0.75, 1.02), view())]
    found = register(grey[0], grey[1], keep)
    assert found is not None
    assert (found.right, found.down) == (pytest.approx(1.5, abs=0.05), pytest.approx(-0.75, abs=0.05))
    assert found.zoom == pytest.approx(1.02, abs=0.001)


def test_another_light_is_no_shift() -> None:
    darker = (view(0.5, 0) * 0.8 + 10).astype(np.uint8)
    assert measured(darker, view())["shift"] == pytest.approx(0.5, abs=0.05)


def test_nothing_to_hold_on_to_has_no_shift() -> None:
    flat = np.full((SIDE, SIDE, 3), 90, np.uint8)
    assert "shift" not in measured(flat, flat)
    assert "shift" not in measured(np.random.default_rng(0).integers(0, 255, flat.shape).astype(np.uint8), view())


def test_no_op() -> None:
    """A copy, a noisy copy and a shifted copy did nothing; an edit of a tenth of the picture did."""
    mask = region(0.1)
    noise = np.random.default_rng(2).normal(0, 3, (SIDE, SIDE, 3))
    copies = {
        "copy": view(),
        "noisy": np.clip(view() + noise, 0, 255).astype(np.uint8),
        "shifted": view(1, 0),
        "tinted": np.clip(view() + np.array([10, 0, -10]), 0, 255).astype(np.uint8),
    }
    for name, copy in copies.items():
        assert measured(copy, view(), mask)["no_op"] == 1, name
    assert measured(edited(view(), mask), view(), mask)["no_op"] == 0
    assert measured(view(), view())["no_op"] == 1  # without a region too
    assert measured(255 - view(), view())["no_op"] == 0


def test_a_source_of_another_size_is_resampled_and_the_floor_recorded() -> None:
    small = Image.fromarray(view()).resize((96, 96), Image.Resampling.LANCZOS)
    mask = Image.fromarray(region(0.2))
    pair = pair_of(view(), small, mask)
    assert isinstance(pair, Pair)
    found = preserve(pair)
    assert not isinstance(found, Skipped)
    assert 25 < found["psnr"] < MOST_PSNR
    assert 25 < found["resampled_psnr"] < MOST_PSNR


def test_another_shape_is_skipped() -> None:
    found = pair_of(view(), Image.fromarray(view()).resize((128, 96)), None)
    assert isinstance(found, Skipped)
    assert "128 x 96" in found.why


def test_a_region_of_everything_leaves_nothing_to_keep() -> None:
    pair = pair_of(view(), Image.fromarray(view()), Image.new("L", (SIDE, SIDE), 255))
    assert isinstance(pair, Pair)
    assert pair.keep is None
    assert "psnr" not in preserve(pair)  # type: ignore[operator]
