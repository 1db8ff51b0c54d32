"""How different the pictures of one prompt are over its seeds. Few-step students tend to draw one picture.

Without a model of pictures this sees only layout and colour. `layout` is the distance of thumbnails of 16 x 16 px in
CIE Lab, `palette` that of their colour distributions. A system that errs at random is diverse too, so read these values
beside those of correctness. For distances on a model's features: `fewstep bench score` with a local model folder.
"""

from collections.abc import Sequence

import numpy as np
import skimage  # its parts are imported when they are first used
from numpy.typing import NDArray
from PIL import Image

from fewstep.bench.metrics.metric import GalleryPicture, Metric, Pixels, Skipped, Values, ValueSpec

SIDE = 16  # px of a thumbnail
BINS = 5  # of each of L, a, b
RANGES = ((0.0, 100.0), (-60.0, 60.0), (-60.0, 60.0))

_Floats = NDArray[np.float64]


def measure(shot: GalleryPicture) -> Values | Skipped:
    if isinstance(shot.pixels, Skipped):
        return shot.pixels
    others = [each.pixels for each in shot.siblings if not isinstance(each.pixels, Skipped)]
    if not others:
        return Skipped("the case has one picture; diversity needs several seeds")
    return diversity(shot.pixels, others)


def diversity(pixels: Pixels, others: Sequence[Pixels]) -> Values:
    """Mean distances of one picture to the case's others. Averaged over a case, this is the mean distance of its
    pairs."""
    layouts, palettes = ([of(each) for each in (pixels, *others)] for of in (layout_features, palette_features))
    return {"layout": mean_distance(layouts[0], layouts[1:]), "palette": mean_distance(palettes[0], palettes[1:])}


def mean_distance(features: _Floats, others: Sequence[_Floats]) -> float:
    return float(np.mean([np.linalg.norm(features - each) for each in others]))


def layout_features(pixels: Pixels) -> _Floats:
    """Scaled so that a Euclidean distance is the root mean square over the thumbnail, in Lab units."""
    small = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(skimage.color.rgb2lab(np.asarray(small))).ravel() / SIDE


def palette_features(pixels: Pixels) -> _Floats:
    """Square roots of a distribution's shares. Their Euclidean distance is the Hellinger distance times sqrt(2): 0 ..
    1.41."""
    small = Image.fromarray(pixels).resize((4 * SIDE, 4 * SIDE), Image.Resampling.BOX)
    lab = skimage.color.rgb2lab(np.asarray(small)).reshape(-1, 3)
    inside = np.stack([np.clip(lab[:, i], low, high) for i, (low, high) in enumerate(RANGES)], axis=1)
    counts, _ = np.histogramdd(inside, bins=BINS, range=RANGES)
    return np.sqrt(counts.ravel() / counts.sum())


METRIC = Metric(
    name="diversity",
    version="1",
    main="layout",
    values={"layout": ValueSpec("Lab units", "higher", "ratio"), "palette": ValueSpec("Hellinger", "higher", "ratio")},
    measure=measure,
    of_case=True,
)
