"""A contact sheet: rows of pictures with a caption each, columns with a heading."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from fewstep.pages.transparency import on_checks
from fewstep.sample.lettering import Font, drawable, nearest_font, wrapped

CELL = 192  # px; smaller pictures are enlarged by whole numbers, without smoothing
MARGIN = 12
TEXT_WIDTH = 300
LINE = 19  # px from one line of words to the next
NOTE_LINES = 2
BOXES = "Boxes: letters that no font here has. Install one that has them, such as Noto Sans CJK."


@dataclass(frozen=True)
class SheetRow:
    """One row. pictures: one for each heading; None leaves a cell empty. name: stands before words that no font here
    can draw whole. note: small words below."""

    words: str
    pictures: Sequence[Image.Image | None]
    name: str = ""
    note: str = ""


@dataclass(frozen=True)
class WrappedWords:
    """Lines in one font. boxes: some of their letters are boxes."""

    lines: Sequence[str]
    font: Font
    boxes: bool = False


def contact_sheet(rows: Sequence[SheetRow], headings: Sequence[str], cell: int = CELL) -> Image.Image:
    """The sheet: captions on the left, one column for each heading. Columns without any picture are left out. Letters
    that no font here has are boxes, and the foot of the sheet says so, once.

    Args:
        cell: side of the squares in px that pictures are fitted into.
    """
    used = [c for c in range(len(headings)) if any(row.pictures[c] is not None for row in rows)]
    step, lines = cell + MARGIN, cell // LINE - 1
    titles = {c: _wrapped(headings[c], f"column {c + 1}", cell, 4) for c in used}
    notes = [_wrapped(row.note, "", TEXT_WIDTH - MARGIN, NOTE_LINES) for row in rows]
    words = [
        _wrapped(row.words, row.name or f"row {i + 1}", TEXT_WIDTH - MARGIN, max(1, lines - len(notes[i].lines)))
        for i, row in enumerate(rows)
    ]
    top = MARGIN + LINE * max((len(title.lines) for title in titles.values()), default=1) + 9
    width, height = TEXT_WIDTH + MARGIN + step * len(used), top + step * len(rows)
    boxes = any(told.boxes for told in (*titles.values(), *words, *notes))
    foot = _wrapped(BOXES if boxes else "", "", width - 2 * MARGIN, 3)
    below = LINE * len(foot.lines) + MARGIN if boxes else 0
    sheet = Image.new("RGB", (width, height + below), "white")
    pen = ImageDraw.Draw(sheet)
    for column, c in enumerate(used):
        _write(pen, (TEXT_WIDTH + MARGIN + column * step, MARGIN), titles[c], "black")
    for number, row in enumerate(rows):
        at = top + number * step
        _write(pen, (MARGIN, at), words[number], "black")
        _write(pen, (MARGIN, at + LINE * len(words[number].lines)), notes[number], "dimgrey")
        for column, c in enumerate(used):
            picture = row.pictures[c]
            if picture is not None:
                sheet.paste(_fitted(picture, cell), (TEXT_WIDTH + MARGIN + column * step, at))
    _write(pen, (MARGIN, height), foot, "dimgrey")
    return sheet


def _wrapped(words: str, name: str, width: int, lines: int) -> WrappedWords:
    """The words; if some of their letters can only be boxes, after the name."""
    if (found := drawable(words)) is not None:
        return WrappedWords(wrapped(*found, width, lines), found[1])
    told = f"{name}\n{words}"
    font = nearest_font(told)
    return WrappedWords(wrapped(told, font, width, lines), font, boxes=True)


def _write(pen: ImageDraw.ImageDraw, at: tuple[int, int], told: WrappedWords, colour: str) -> None:
    for number, line in enumerate(told.lines):
        pen.text((at[0], at[1] + LINE * number), line, fill=colour, font=told.font)


def _fitted(picture: Image.Image, side: int) -> Image.Image:
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
