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
FINE = 10  # a shift is found to a tenth of a pixel
SAME = 0.6  # correlation after the shift, below which the tile shows something else


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
        {
            "x": x,
            "y": y,
            "w": side,
            "h": side,
            **_shift(first[y : y + side, x : x + side], second[y : y + side, x : x + side]),
        }
        for y in range(0, height - side + 1, side)
        for x in range(0, width - side + 1, side)
    ]
    return {"width": width, "height": height, "tiles": tiles}


def _shift(a: NDArray[np.float64], b: NDArray[np.float64]) -> dict[str, float | None]:
    nothing: dict[str, float | None] = {"dx": None, "dy": None}
    if min(a.std(), b.std()) < FLAT:
        return nothing
    window = np.outer(np.hanning(a.shape[0]), np.hanning(a.shape[1]))
    first, second = ((tile - tile.mean()) * window for tile in (a, b))
    (dy, dx), _, _ = skimage.registration.phase_cross_correlation(
        first, second, upsample_factor=FINE, normalization=None
    )
    if max(abs(dy), abs(dx)) > a.shape[0] / 4:
        return nothing
    moved = np.roll(second, (round(dy), round(dx)), (0, 1))
    alike = float((first * moved).sum() / np.sqrt((first**2).sum() * (moved**2).sum() + 1e-9))
    # The function tells how far `b` has to go to lie on `a`; shown is how far it has gone.
    return {"dx": round(-float(dx), 2), "dy": round(-float(dy), 2)} if alike >= SAME else nothing


def _grey(folder: Path, asked: str, shape: tuple[int, ...] | None) -> NDArray[np.float64]:
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
