"""A contact sheet: rows of pictures with a caption each, columns with a heading."""

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

CELL = 192  # px; smaller pictures are enlarged by whole numbers, without smoothing
MARGIN = 12
TEXT_WIDTH = 300

SheetRow = tuple[str, Sequence[Image.Image | None]]


def contact_sheet(rows: Sequence[SheetRow], headings: Sequence[str]) -> Image.Image:
    """The sheet: captions on the left, one column for each heading. None leaves a cell empty. Columns without any
    picture are left out."""
    used = [c for c in range(len(headings)) if any(pictures[c] is not None for _, pictures in rows)]
    step = CELL + MARGIN
    sheet = Image.new("RGB", (TEXT_WIDTH + MARGIN + step * len(used), 40 + step * len(rows)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for column, c in enumerate(used):
        pen.text((TEXT_WIDTH + MARGIN + column * step, MARGIN), headings[c], fill="black", font=font)
    for line, (words, pictures) in enumerate(rows):
        top = 40 + line * step
        caption = "\n".join(textwrap.wrap(words, 38)[:9])
        pen.text((MARGIN, top), caption, fill="black", font=font)
        for column, c in enumerate(used):
            picture = pictures[c]
            if picture is not None:
                sheet.paste(_fitted(picture), (TEXT_WIDTH + MARGIN + column * step, top))
    return sheet


def _fitted(picture: Image.Image, side: int = CELL) -> Image.Image:
    """The picture in a square cell: small ones by whole numbers and crisp, large ones smoothly reduced."""
    picture = picture.convert("RGB")
    longest = max(picture.size)
    if longest * 2 <= side:
        factor = side // longest
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    if longest > side:
        scale = side / longest
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        return picture.resize(size, Image.Resampling.LANCZOS)
    return picture
