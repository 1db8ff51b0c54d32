"""A report as a folder of files: one page, its data, two scripts. Opens from the file system; refers to nothing
outside."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from fewstep.bench.report.pictures import LIGHT, PICTURES
from fewstep.bench.report.table_markup import latex, markdown
from fewstep.bench.report.tables import Table
from fewstep.pages.charts import interval
from fewstep.runtime import durable

PAGE, DATA = "index.html", "data.js"
SCRIPTS = ("report.js", "copy.js")
OWN = {PAGE, DATA, *SCRIPTS, PICTURES, LIGHT}  # everything that a report's folder may hold


@dataclass(frozen=True)
class ReportSection:
    """key is its anchor."""

    key: str
    title: str
    tables: tuple[Table, ...]
    note: str = ""


@dataclass(frozen=True)
class FactSheet:
    title: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class BenchReport:
    """suites: how many there are."""

    title: str
    summary: str
    missing: tuple[str, ...]
    sections: tuple[ReportSection, ...]
    facts: tuple[FactSheet, ...]
    suites: int


def render_report(page: BenchReport) -> str:
    """The page as HTML; everything a gallery says is escaped."""
    templates = [PackageLoader("fewstep.bench.report", "templates"), PackageLoader("fewstep.pages", "templates")]
    environment = Environment(
        loader=ChoiceLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["interval"] = interval
    return environment.get_template("report.html").render(page=page)


def write_report(page: BenchReport, data: Mapping[str, Any], to: Path) -> Path:
    """All files but the pictures; the page last, so that a page that is there is whole."""
    tables = [table for section in page.sections for table in section.tables]
    copies = {f"{t.key}.md": markdown(t) for t in tables} | {f"{t.key}.tex": latex(t) for t in tables}
    told = [asdict(section) for section in page.sections]
    kept = {**data, "copies": copies, "title": page.title, "summary": page.summary, "sections": told}
    text = json.dumps(kept, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    durable.write_atomically(to / DATA, _encoded(f"window.fewstepReport = {text};\n"))
    for script in SCRIPTS:
        durable.write_atomically(to / script, (Path(__file__).parent / "templates" / script).read_bytes())
    durable.write_atomically(to / PAGE, _encoded(render_report(page)))
    return to / PAGE


def _encoded(text: str) -> bytes:
    """UTF-8; half a surrogate pair, which a judge may write in JSON, becomes a question mark."""
    return text.encode("utf-8", "replace")
