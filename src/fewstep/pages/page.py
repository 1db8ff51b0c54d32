"""A report as one static file: its content, and how it is written. This module does not know where the numbers come
from.

The file refers to nothing outside it: pictures are inlined, and everything that a run states is escaped.
"""

import base64
import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from fewstep.pages.charts import (
    Series,
    interval,
    line_chart,
)
from fewstep.pages.transparency import on_checks
from fewstep.runtime import durable
from fewstep.runtime.errors import RunError

# What Pillow raises of files that are no whole pictures, or too large ones.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


@dataclass(frozen=True)
class StatCard:
    """One figure in a large font. note: what to compare it with."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class TableCell:
    """A value with its interval or n in small print below. ratio: drawn on the table's common scale, where 1 means
    equal."""

    text: str
    under: str = ""
    ratio: tuple[float, float | None, float | None] | None = None


@dataclass(frozen=True)
class TableRow:
    name: str
    cells: tuple[TableCell, ...]
    note: str = ""
    group: str = ""


@dataclass(frozen=True)
class PageTable:
    title: str
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    note: str = ""

    @property
    def span(self) -> tuple[float, float]:
        """The common scale of the ratios: 1 and every interval within, a little wider."""
        ends = [1.0, *(end for row in self.rows for cell in row.cells for end in cell.ratio or () if end is not None)]
        pad = 0.05 * (max(ends) - min(ends)) or 0.1
        return min(ends) - pad, max(ends) + pad


@dataclass(frozen=True)
class SheetPicture:
    """One picture of a row. mark: the row's point, drawn in the student's colour."""

    label: str
    image: Path | Image.Image
    mark: bool = False


@dataclass(frozen=True)
class Strip:
    """Pictures that belong together, with their prompt."""

    caption: str
    pictures: tuple[SheetPicture, ...]


@dataclass(frozen=True)
class Sheet:
    """compact: rows stand beside each other where there is room, with smaller pictures."""

    title: str
    strips: tuple[Strip, ...]
    note: str = ""
    compact: bool = False


@dataclass(frozen=True)
class Chart:
    title: str
    series: tuple[Series, ...]
    x_label: str = "iteration"
    note: str = ""


@dataclass(frozen=True)
class Counts:
    """How often each thing occurred: name -> count."""

    title: str
    counts: dict[str, int]
    note: str = ""


@dataclass(frozen=True)
class ShareTable:
    """Declared and realised shares: (name, declared, realised) in words."""

    title: str
    rows: tuple[tuple[str, str, str], ...]
    note: str = ""


@dataclass(frozen=True)
class ReportPage:
    title: str
    summary: str
    cards: tuple[StatCard, ...] = ()
    tables: tuple[PageTable, ...] = ()
    sheets: tuple[Sheet, ...] = ()
    charts: tuple[Chart, ...] = ()
    samples: tuple[Sheet, ...] = ()
    shares: tuple[ShareTable, ...] = ()
    counts: tuple[Counts, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    texts: tuple[tuple[str, str], ...] = field(default=())  # longer ones, folded: the recipe, the command
    warnings: tuple[str, ...] = ()
    events: tuple[str, ...] = ()  # what was noticed during a run and how it reacted, oldest first


def page_html(page: ReportPage) -> str:
    """The page as HTML."""
    environment = Environment(
        loader=PackageLoader("fewstep.pages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"inlined": data_uri, "line_chart": line_chart, "interval": interval, "share": bar_percent}
    return environment.get_template("page.html").render(page=page)


def write_html(page: ReportPage, to: Path) -> Path:
    """The page as a file, whole or absent."""
    durable.make_folder(to.parent)
    durable.write_atomically(to, page_html(page))
    return to


def data_uri(image: Path | Image.Image) -> str:
    """A picture as a data URI. Small pictures keep every pixel; large ones are JPEG, so that a page stays light.

    Raises:
        RunError: a file that is missing, or holds no whole picture.
    """
    if isinstance(image, Path):
        try:
            with Image.open(image) as opened:
                image = on_checks(opened)
        except UNREADABLE as error:
            raise RunError(
                f"{image} cannot be read as a picture ({type(error).__name__}); restore it, then make the page again"
            ) from error
    image, kind = on_checks(image), "PNG"
    if max(image.size) > 320:
        image.thumbnail((1024, 1024))
        kind = "JPEG"
    stream = io.BytesIO()
    image.save(stream, format=kind, quality=88, optimize=True)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


def bar_percent(count: int, counts: Sequence[int]) -> float:
    """A count as a part of the largest, in percent: the length of its bar."""
    return 100 * count / max(*counts, 1)
