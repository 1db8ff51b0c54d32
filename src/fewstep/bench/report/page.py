"""A report as a folder of files: one page, its data, two scripts. Opens from the file system; refers to nothing
outside."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from fewstep import durable
from fewstep.bench.report.copies import latex, markdown
from fewstep.bench.report.parts import Table
from fewstep.bench.report.pictures import LIGHT, PICTURES
from fewstep.report.charts import interval

PAGE, DATA = "index.html", "data.js"
SCRIPTS = ("report.js", "copy.js")
OWN = {PAGE, DATA, *SCRIPTS, PICTURES, LIGHT}  # all that may lie in a report's folder


@dataclass(frozen=True)
class Section:
    """key is its anchor."""

    key: str
    title: str
    tables: tuple[Table, ...]
    note: str = ""


@dataclass(frozen=True)
class Facts:
    title: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Page:
    """suites: how many there are."""

    title: str
    summary: str
    missing: tuple[str, ...]
    sections: tuple[Section, ...]
    facts: tuple[Facts, ...]
    suites: int


def rendered(page: Page) -> str:
    """The page as HTML; everything a gallery says is escaped."""
    templates = [PackageLoader("fewstep.bench.report", "templates"), PackageLoader("fewstep.report", "templates")]
    environment = Environment(
        loader=ChoiceLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["interval"] = interval
    return environment.get_template("report.html").render(page=page)


def write(page: Page, data: Mapping[str, Any], to: Path) -> Path:
    """All files but the pictures; the page last, so that a page that is there is whole."""
    tables = [table for section in page.sections for table in section.tables]
    copies = {f"{t.key}.md": markdown(t) for t in tables} | {f"{t.key}.tex": latex(t) for t in tables}
    text = json.dumps({**data, "copies": copies}, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    durable.write(to / DATA, _encoded(f"window.fewstepReport = {text};\n"))
    for script in SCRIPTS:
        durable.write(to / script, (Path(__file__).parent / "templates" / script).read_bytes())
    durable.write(to / PAGE, _encoded(rendered(page)))
    return to / PAGE


def _encoded(text: str) -> bytes:
    """UTF-8; half a surrogate pair, which a judge may write in JSON, becomes a question mark."""
    return text.encode("utf-8", "replace")
