"""Diversity, tone, sanity, latency."""

import numpy as np
import pytest
from PIL import Image

from fewstep.bench.metrics import latency
from fewstep.bench.metrics.diversity import diversity
from fewstep.bench.metrics.measurements import Measurement
from fewstep.bench.metrics.sanity import _of_pixels
from fewstep.bench.metrics.tone import tone


def plain(colour: str) -> np.ndarray:
    return np.asarray(Image.new("RGB", (64, 64), colour))


def test_equal_pictures_have_no_diversity_and_others_have() -> None:
    red, teal = plain("red"), plain("teal")
    assert diversity(red, [red, red]) == {"layout": 0, "palette": 0}
    one, all_of = diversity(red, [teal])["layout"], diversity(red, [teal, red])["layout"]
    assert one > 50
    assert all_of == pytest.approx(one / 2)


def test_noise_is_hardly_diverse_and_mirroring_is_layout_alone() -> None:
    half = plain("red").copy()
    half[:, 32:] = plain("teal")[:, 32:]
    noisy = np.clip(half + np.random.default_rng(0).normal(0, 4, half.shape), 0, 255).astype(np.uint8)
    mirrored = diversity(half, [half[:, ::-1].copy()])
    assert diversity(half, [noisy])["layout"] < 0.1 * mirrored["layout"]
    assert mirrored["palette"] == pytest.approx(0, abs=1e-6)


def test_tone_sees_what_it_is_named_for() -> None:
    grey, red = tone(plain("grey")), tone(plain("red"))
    assert grey["saturation"] == pytest.approx(0, abs=0.1)
    assert red["saturation"] > 90
    assert (red["clipped_dark"], red["clipped_light"]) == (1, 1)
    bars = plain("black").copy()
    bars[:, ::2] = 255
    assert tone(bars)["contrast"] == pytest.approx(50, abs=0.1)
    assert tone(plain("white"))["brightness"] == pytest.approx(100, abs=0.1)


def test_sanity() -> None:
    fine = np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    assert not any(_of_pixels(fine, (32, 32)).values())
    assert _of_pixels(fine, (32, 64))["wrong_size"] == 1
    assert _of_pixels(fine, None)["wrong_size"] == 0
    assert _of_pixels(plain("black"), None) == {"black": 1, "constant": 1, "wrong_size": 0}
    assert _of_pixels(plain("teal"), None)["constant"] == 1


def test_latency_summary() -> None:
    times = [1.0] * 8 + [2.0, 4.0]
    records = [Measurement(str(i), 0, "t2i", "x", "latency", "1", {"seconds": t}) for i, t in enumerate(times)]
    found = latency.latency_summary(records)
    assert found["median_s"] == 1
    assert found["p90_s"] == pytest.approx(2.2)
    assert found["pictures_a_second"] == pytest.approx(10 / 14)
    assert latency.latency_summary([]) == {}
