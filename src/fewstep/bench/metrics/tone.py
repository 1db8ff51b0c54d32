"""Saturation, contrast, brightness, clipping: the look of a picture. None of them is right or wrong alone. What matters
is the distance from the teacher on the same case and seed (distribution matching distillation over-saturates)."""

import numpy as np
import skimage  # its parts are imported when they are first used

from fewstep.bench.metrics.metric import GalleryPicture, Metric, Pixels, Skipped, Values, ValueSpec


def measure(shot: GalleryPicture) -> Values | Skipped:
    return shot.pixels if isinstance(shot.pixels, Skipped) else tone(shot.pixels)


def tone(pixels: Pixels) -> Values:
    """saturation: mean chroma in CIE Lab; contrast: standard deviation of L*; brightness: mean L*; clipped_dark,
    clipped_light: share of pixels with a channel at 0 or at 255."""
    lab = skimage.color.rgb2lab(pixels)
    return {
        "saturation": float(np.hypot(lab[..., 1], lab[..., 2]).mean()),
        "contrast": float(lab[..., 0].std()),
        "brightness": float(lab[..., 0].mean()),
        "clipped_dark": float((pixels == 0).any(axis=-1).mean()),
        "clipped_light": float((pixels == 255).any(axis=-1).mean()),
    }


METRIC = Metric(
    name="tone",
    version="1",
    main="saturation",
    values={
        "saturation": ValueSpec("Lab chroma", None, "ratio"),
        "contrast": ValueSpec("L*", None, "ratio"),
        "brightness": ValueSpec("L*", None),
        "clipped_dark": ValueSpec("share", None),
        "clipped_light": ValueSpec("share", None),
    },
    measure=measure,
)
