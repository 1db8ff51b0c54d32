"""The exact pictures of a prompt: one for each value of what the prompt does not name."""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from fewstep.pocket.harder.attributes import CATEGORIES
from fewstep.pocket.harder.captions import Named, usual
from fewstep.pocket.harder.edits import possible
from fewstep.pocket.harder.render import render
from fewstep.pocket.harder.scenes import Scene

RGBArray = NDArray[np.uint8]
MOST = 64  # answers; a prompt that leaves more open is examined by its attributes alone


def open_scenes(it: Scene, named: Named | None = None) -> list[Scene] | None:
    """Every scene that a prompt naming these attributes of `it` fits, by default all but light and pose. None if there
    are more than MOST. A sign's word is always named."""
    told = usual(it) if named is None else named
    free = [each for each in CATEGORIES[it.category] if each.name not in told]
    ways = np.prod([len(each.values) for each in free], dtype=np.int64)
    if ways > MOST:
        return None
    names = [each.name for each in free]
    every = (it.having(**dict(zip(names, values, strict=True))) for values in product(*(a.values for a in free)))
    return [each for each in every if possible(each)]


@lru_cache(maxsize=2048)
def exact_answers(it: Scene, named: Named | None = None) -> tuple[RGBArray, ...]:
    """The different exact pictures (H, W, 3) of such a prompt; empty where they are too many to list."""
    found: dict[bytes, RGBArray] = {}
    for each in open_scenes(it, named) or []:
        pixels = np.asarray(render(each))
        found.setdefault(pixels.tobytes(), pixels)
    return tuple(found.values())
