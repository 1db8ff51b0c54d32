"""A sheet of the harder world for docs/harder-world.md: scenes by category, then edits with what they take from."""

import argparse
import random
from pathlib import Path

from PIL import Image

from fewstep.pocket.harder.attributes import CATEGORIES
from fewstep.pocket.harder.edits import PROPOSE, edit_images, reference_edit
from fewstep.pocket.harder.render import render
from fewstep.pocket.harder.scenes import Scene, random_scene

ZOOM, GAP = 2, 6
WIDE: dict[str, int] = {"landscape": 5, "portrait": 6, "text": 6, "still-life": 6}
SQUARE, OBLONG = (96, 96), (128, 96)


def scenes(category: str, rng: random.Random) -> list[Image.Image]:
    """A row: squares, and of landscapes oblongs among them."""
    sizes = [OBLONG if category == "landscape" and k % 2 == 0 else SQUARE for k in range(WIDE[category])]
    return [render(random_scene(category, rng, "heldout", size)) for size in sizes]


def edits(kinds: tuple[str, ...], rng: random.Random) -> list[Image.Image]:
    """Source and result of one edit of each kind; "reference": source, what lends, and the result."""
    row: list[Image.Image] = []
    for kind in kinds:
        edit = None
        while edit is None:
            category = {"text": "text", "identity": "portrait"}.get(kind) or rng.choice(list(CATEGORIES))
            it: Scene = random_scene(category, rng, "heldout", SQUARE)
            edit = reference_edit(it, rng, 1) if kind == "reference" else PROPOSE[kind](it, rng)
        row += edit_images(edit, ("sheet", kind))
    return row


def sheet(rows: list[list[Image.Image]]) -> Image.Image:
    width = max(sum(picture.width * ZOOM + GAP for picture in row) for row in rows) - GAP
    height = sum(max(picture.height for picture in row) * ZOOM + GAP for row in rows) - GAP
    page, y = Image.new("RGB", (width, height), "white"), 0
    for row in rows:
        x = 0
        for picture in row:
            large = picture.resize((picture.width * ZOOM, picture.height * ZOOM), Image.Resampling.BICUBIC)
            page.paste(large, (x, y))
            x += large.width + GAP
        y += max(picture.height for picture in row) * ZOOM + GAP
    return page


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("to", type=Path)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    rows = [scenes(category, rng) for category in CATEGORIES]
    rows += [edits(("object", "identity", "text"), rng), edits(("reference", "reference"), rng)]
    sheet(rows).save(given.to, quality=88)
