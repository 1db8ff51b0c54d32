"""Did an edit preserve what it should? And did it change anything at all?

What must be preserved is everything outside the case's region mask, minus a margin: a soft edge belongs to the change.
Nothing is ever filled in or set to black, because a hole of zeros would add structure of its own. Instead, figures are
computed on whole pictures and averaged over the preserved part.
"""

from dataclasses import dataclass

import numpy as np
import scipy  # its parts are imported when they are first used
import skimage  # its parts are imported when they are first used
from numpy.typing import NDArray
from PIL import Image

from fewstep.bench.metrics.metric import GalleryPicture, Mask, Metric, Pixels, Skipped, Values, ValueSpec
from fewstep.bench.metrics.registration import register

Lab = NDArray[np.float64]

MARGIN = 3  # px around the region, and 1 % of the shorter side where that is more
WINDOW = 8  # px; reach of SSIM's window of 11 x 11 px to its corners; the window must not extend into the region
FEWEST = 64  # px to preserve; with fewer there is no value
MOST_PSNR = 60.0  # dB; of an exact copy, so that means stay finite
STRETCHED = 0.02  # relative difference of aspect ratios; beyond it the picture is another crop
BLUR = 1.5  # px; a change that this hides is noise
NOTICED = 3.0  # Lab units from which a change counts, just above what eyes notice
SAME_PLACE = 0.8  # correlation; below it the source was not found again, and a shift means nothing
LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Pair:
    """Answer and source at the answer's size; keep: what must be preserved, None if the case does not say."""

    picture: Pixels
    source: Pixels
    keep: Mask | None
    resampled_psnr: float | None


def measure(shot: GalleryPicture) -> Values | Skipped:
    if shot.source is None:
        return Skipped("text to image: nothing to preserve")
    if isinstance(shot.pixels, Skipped):
        return shot.pixels
    pair = pair_of(shot.pixels, shot.source, shot.region)
    return pair if isinstance(pair, Skipped) else preserve(pair)


def pair_of(picture: Pixels, source: Image.Image, region: Image.Image | None) -> Pair | Skipped:
    """The source and the mask scaled to the answer's size."""
    height, width = picture.shape[:2]
    aspect = (width / height) / (source.width / source.height)
    if abs(np.log(aspect)) > STRETCHED:
        return Skipped(
            f"the answer is {width} x {height} px, its source {source.width} x {source.height}: not one shape"
        )
    keep = None
    if region is not None:
        mask = region if region.size == (width, height) else region.resize((width, height), Image.Resampling.NEAREST)
        may_change = np.asarray(mask.convert("L")) >= 128
        keep = None if may_change.all() else ~may_change
    if source.size == (width, height):
        return Pair(picture, np.asarray(source), keep, None)
    fitted = np.asarray(source.resize((width, height), Image.Resampling.LANCZOS))
    other = np.asarray(source.resize((width, height), Image.Resampling.BILINEAR))
    return Pair(picture, fitted, keep, psnr(fitted, other, np.ones((height, width), bool) if keep is None else keep))


def preserve(pair: Pair) -> Values | Skipped:
    """psnr, ssim, colour (mean CIEDE2000) and tint (CIEDE2000 of the mean colours, so noise cancels) over what must be
    preserved; shift and zoom of it; change: the strongest change where one is allowed; no_op: 1 if there is no
    noticeable change. resampled_psnr: if the source had to be resampled, the PSNR between two resamplers; no copy can
    be expected to come closer."""
    lab, source_lab = skimage.color.rgb2lab(pair.picture), skimage.color.rgb2lab(pair.source)
    found = _changes(lab, source_lab, pair.keep) | _movement(pair)
    if pair.keep is None:
        return found
    kept = eroded(pair.keep, max(MARGIN, round(0.01 * min(pair.keep.shape))))
    if kept.sum() < FEWEST:
        return found
    found |= {
        "psnr": psnr(pair.picture, pair.source, kept),
        "colour": float(skimage.color.deltaE_ciede2000(lab[kept], source_lab[kept]).mean()),
        "tint": float(skimage.color.deltaE_ciede2000(lab[kept].mean(0), source_lab[kept].mean(0))),
    }
    for_windows = eroded(pair.keep, max(MARGIN, WINDOW))
    if for_windows.sum() >= FEWEST and min(pair.keep.shape) >= 11:
        found["ssim"] = float(ssim_map(pair.picture, pair.source)[for_windows].mean())
    if pair.resampled_psnr is not None:
        found["resampled_psnr"] = pair.resampled_psnr
    return found


def psnr(a: Pixels, b: Pixels, where: Mask) -> float:
    """10 log10(255^2 / MSE) in dB over these pixels, MOST_PSNR at most."""
    gap = float(np.mean((a[where].astype(np.float64) - b[where]) ** 2))
    return min(MOST_PSNR, float(10 * np.log10(255**2 / max(gap, 1e-12))))


def ssim_map(a: Pixels, b: Pixels) -> NDArray[np.float64]:
    """SSIM (Wang et al. 2004) at every pixel, (height, width): Gaussian windows with sigma 1.5 px, averaged over
    colours."""
    _, found = skimage.metrics.structural_similarity(
        a, b, channel_axis=-1, gaussian_weights=True, use_sample_covariance=False, full=True
    )
    return np.asarray(found.mean(axis=-1))


def eroded(keep: Mask, px: int) -> Mask:
    """Without everything within px of the region; the picture's own border stays."""
    return np.asarray(scipy.ndimage.distance_transform_edt(keep) > px) if not keep.all() else keep


def _changes(lab: Lab, source_lab: Lab, keep: Mask | None) -> Values:
    """The 95th percentile of the blurred difference. It counts as no edit if it is below what eyes notice, or within
    twice the change of the rest (a shifted or recoloured copy is no edit either)."""
    blurred = scipy.ndimage.gaussian_filter(lab - source_lab, (BLUR, BLUR, 0))
    difference = np.linalg.norm(blurred, axis=-1)
    if keep is None:
        change = float(np.quantile(difference, 0.95))
        return {"change": change, "no_op": float(change < NOTICED)}
    change = float(np.quantile(difference[~keep], 0.95))
    outside = eroded(keep, MARGIN)
    beside = float(np.quantile(difference[outside], 0.95)) if outside.sum() >= FEWEST else 0.0
    return {"change": change, "no_op": float(change < max(NOTICED, 2 * beside))}


def _movement(pair: Pair) -> Values:
    grey = [x @ LUMA for x in (pair.picture, pair.source)]
    keep = np.ones(grey[0].shape, bool) if pair.keep is None else eroded(pair.keep, MARGIN)
    found = register(grey[0], grey[1], keep)
    if found is None or found.correlation < SAME_PLACE:
        return {}
    return {"shift": found.shift, "zoom": 100 * abs(found.zoom - 1)}


METRIC = Metric(
    name="preserve",
    version="1",
    main="psnr",
    values={
        "psnr": ValueSpec("dB", "higher"),
        "ssim": ValueSpec("share", "higher"),
        "colour": ValueSpec("CIEDE2000", "lower"),
        "tint": ValueSpec("CIEDE2000", "lower"),
        "shift": ValueSpec("px", "lower"),
        "zoom": ValueSpec("%", "lower"),
        "change": ValueSpec("Lab units", None),
        "no_op": ValueSpec("share", "lower"),
        "resampled_psnr": ValueSpec("dB", None),
    },
    measure=measure,
)
