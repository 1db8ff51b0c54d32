"""A contact sheet: rows of pictures with a caption each, columns with a heading."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from fewstep.pages.transparency import on_checks
from fewstep.sample.lettering import drawable, font_for, wrapped

CELL = 192  # px; smaller pictures are enlarged by whole numbers, without smoothing
MARGIN = 12
TEXT_WIDTH = 300
LINE = 19  # px from one line of words to the next
CAPTION_LINES = 9
NOTE_LINES = 2
NO_LETTERS = "its words have letters that no font here can draw; install one that has them, such as Noto Sans CJK"


@dataclass(frozen=True)
class SheetRow:
    """One row. pictures: one for each heading; None leaves a cell empty. name: stands in place of words whose letters
    no font here can draw. note: small words below."""

    words: str
    pictures: Sequence[Image.Image | None]
    name: str = ""
    note: str = ""


def contact_sheet(rows: Sequence[SheetRow], headings: Sequence[str]) -> Image.Image:
    """The sheet: captions on the left, one column for each heading. Columns without any picture are left out."""
    used = [c for c in range(len(headings)) if any(row.pictures[c] is not None for row in rows)]
    step = CELL + MARGIN
    titles = {c: _lines(headings[c], f"column {c + 1}", CELL, 4) for c in used}
    top = MARGIN + LINE * max(map(len, titles.values()), default=1) + 9
    sheet = Image.new("RGB", (TEXT_WIDTH + MARGIN + step * len(used), top + step * len(rows)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, c in enumerate(used):
        _write(pen, (TEXT_WIDTH + MARGIN + column * step, MARGIN), titles[c], "black")
    for number, row in enumerate(rows):
        at = top + number * step
        note = _lines(row.note, "", TEXT_WIDTH - MARGIN, NOTE_LINES)
        words = _lines(row.words, row.name or f"row {number + 1}", TEXT_WIDTH - MARGIN, CAPTION_LINES - len(note))
        _write(pen, (MARGIN, at), words, "black")
        _write(pen, (MARGIN, at + LINE * len(words)), note, "dimgrey")
        for column, c in enumerate(used):
            picture = row.pictures[c]
            if picture is not None:
                sheet.paste(_fitted(picture), (TEXT_WIDTH + MARGIN + column * step, at))
    return sheet


def _lines(words: str, name: str, width: int, lines: int) -> list[str]:
    """The words, or else the name with the reason."""
    for told in (words, f"{name}\n({NO_LETTERS})", f"({NO_LETTERS})"):
        if (found := drawable(told)) is not None:
            return wrapped(*found, width, lines)
    raise AssertionError("Pillow's own font has the letters of our words")


def _write(pen: ImageDraw.ImageDraw, at: tuple[int, int], lines: Sequence[str], colour: str) -> None:
    for number, line in enumerate(lines):
        pen.text((at[0], at[1] + LINE * number), line, fill=colour, font=font_for(line))


def _fitted(picture: Image.Image, side: int = CELL) -> Image.Image:
    """The picture in a square cell: small ones by whole numbers and crisp, large ones smoothly reduced."""
    longest = max(picture.size)
    if longest * 2 <= side:
        factor = side // longest
        return on_checks(picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST))
    if longest > side:
        scale = side / longest
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        whole = picture if picture.mode in ("RGB", "RGBA") else picture.convert("RGBA")
        return on_checks(whole.resize(size, Image.Resampling.LANCZOS))
    return on_checks(picture)
