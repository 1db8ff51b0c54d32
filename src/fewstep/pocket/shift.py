"""How far an edit moved the picture as a whole, in pixels: the most common complaint about edits.

By phase correlation (Kuglin and Hines 1975; scikit-image) between source and result, on the largest rectangle that the
edit may not change. A mask's own outline would count as a feature that never moves. Flat rectangles contain no
information and are skipped. The window that fades out a rectangle's edges does not move either, so shifts are measured
up to a tenth too short.
"""

import numpy as np
from PIL import Image
from skimage.registration import phase_cross_correlation

MIN_SIDE = 24  # px, of a rectangle that is used
MIN_SPREAD = 8.0  # levels: standard deviation below which a rectangle is flat
FINENESS = 100  # steps per pixel


def shift(source: Image.Image, result: Image.Image, region: np.ndarray) -> float | None:
    """Length in pixels of the shift from source to result where nothing may change; None if it cannot be measured.

    region: (H, W) bool, what the edit may change.
    """
    place = largest_rectangle(~region)
    if place is None:
        return None
    before, after = (_seen(picture, place) for picture in (source, result))
    if before.std() < MIN_SPREAD or after.std() < MIN_SPREAD:
        return None
    window = np.outer(*(np.hanning(side + 2)[1:-1] for side in before.shape))  # a rectangle's edges are no features
    moved, _, _ = phase_cross_correlation(
        *((picture - picture.mean()) * window for picture in (before, after)),
        upsample_factor=FINENESS,
        normalization=None,
    )
    return float(np.hypot(*moved))


def largest_rectangle(free: np.ndarray) -> tuple[slice, slice] | None:
    """Rows and columns of the largest all-true rectangle with sides of at least MIN_SIDE; None where there is none."""
    height, width = free.shape
    left, right = np.arange(width)[:, None], np.arange(width)[None, :]
    widths = np.where(right - left + 1 >= MIN_SIDE, right - left + 1, 0)
    best, place = 0, None
    heights = np.zeros(width, int)  # of the column of true pixels that ends in this row
    for row in range(height):
        heights = np.where(free[row], heights + 1, 0)
        if heights.max() < MIN_SIDE:
            continue
        lowest = np.minimum.accumulate(np.where(right >= left, heights, height), axis=1)  # from left to right
        areas = np.where(lowest >= MIN_SIDE, lowest * widths, 0)
        if areas.max() > best:
            best = int(areas.max())
            start, end = divmod(int(areas.argmax()), width)
            place = (slice(row - int(lowest[start, end]) + 1, row + 1), slice(start, end + 1))
    return place


def _seen(picture: Image.Image, place: tuple[slice, slice]) -> np.ndarray:
    return np.asarray(picture.convert("L"), dtype=np.float64)[place]
