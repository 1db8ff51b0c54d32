"""Where the parts of one picture stand against another: a grid of small shifts, by phase correlation of each tile.

A single number says that an edit moved what it should have left alone; the map says where.
"""

from pathlib import Path
from typing import Any

import numpy as np
import skimage  # its parts are imported when they are first used
from numpy.typing import NDArray
from PIL import Image

from fewstep.run.studio.answers import StudioRefused
from fewstep.run.studio.places import file_inside
from fewstep.run.studio.thumbnails import KINDS

TILES = 8  # along the longer side, at most
LEAST = 16  # px of a tile
LARGEST = 1024  # px of the longer side that is looked at
FLAT = 4.0  # levels of 255: a tile that varies less has nothing to be found by
LOOKS = 3  # for a tile, each where the one before found it
FINE = 10  # a shift is found to a tenth of a pixel
SAME = 0.6  # correlation after the shift, below which the tile shows something else

Grey = NDArray[np.float64]


def shift_map(folder: Path, a: str, b: str) -> dict[str, Any]:
    """The shift of each tile of picture `b` against `a`, which is scaled to its size: x, y, width, height, and dx, dy
    in pixels of `b`; those are None where the tile is flat or shows something else.

    Raises:
        StudioRefused: no such pictures.
    """
    first, second = _grey(folder, a, None), _grey(folder, b, None)
    if first.shape != second.shape:
        first = _grey(folder, a, second.shape)
    height, width = second.shape
    side = max(LEAST, -(-max(height, width) // TILES))
    tiles = [
        {"x": x, "y": y, "w": side, "h": side, **_shift(first, second, (y, x), side)}
        for y in range(0, height - side + 1, side)
        for x in range(0, width - side + 1, side)
    ]
    return {"width": width, "height": height, "tiles": tiles}


def _shift(a: Grey, b: Grey, place: tuple[int, int], side: int) -> dict[str, float | None]:
    """How far the tile of `a` at `place` has gone in `b`. It is looked for again where it was found at first, since a
    window that does not move with it draws every shift towards 0."""
    nothing: dict[str, float | None] = {"dx": None, "dy": None}
    tile = _cut(a, place, side)
    window = np.outer(np.hanning(side), np.hanning(side))
    if tile.std() < FLAT:
        return nothing
    gone, rest = (0, 0), (0.0, 0.0)
    for _ in range(LOOKS):
        there = place[0] + gone[0], place[1] + gone[1]
        if min(there) < 0 or there[0] + side > b.shape[0] or there[1] + side > b.shape[1]:
            return nothing
        other = _cut(b, there, side)
        if other.std() < FLAT or max(map(abs, gone)) > side / 2:
            return nothing
        first, second = ((each - each.mean()) * window for each in (tile, other))
        # The function tells how far the second has to go to lie on the first: the way back.
        back, _, _ = skimage.registration.phase_cross_correlation(
            first, second, upsample_factor=FINE, normalization=None
        )
        rest = -float(back[0]), -float(back[1])
        if max(map(abs, rest)) <= 0.5:
            break
        gone = gone[0] + round(rest[0]), gone[1] + round(rest[1])
    alike = float((first * second).sum() / np.sqrt((first**2).sum() * (second**2).sum() + 1e-9))
    if alike < SAME:
        return nothing
    return {"dx": round(gone[1] + rest[1], 2), "dy": round(gone[0] + rest[0], 2)}


def _cut(picture: Grey, place: tuple[int, int], side: int) -> Grey:
    return picture[place[0] : place[0] + side, place[1] : place[1] + side]


def _grey(folder: Path, asked: str, shape: tuple[int, ...] | None) -> Grey:
    path = file_inside(folder, asked)
    if path.suffix.lower() not in KINDS:
        raise StudioRefused("only pictures are compared", 403)
    try:
        with Image.open(path) as opened:
            grey = opened.convert("L")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise StudioRefused(f"{path.name:.100} cannot be read as a picture (any more)", 404) from error
    if shape is not None:
        grey = grey.resize((shape[1], shape[0]), Image.Resampling.LANCZOS)
    else:
        grey.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return np.asarray(grey, np.float64)
