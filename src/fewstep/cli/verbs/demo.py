"""`fewstep demo` and `fewstep pocket examine`: a student, its teacher, and the page that compares them."""

import shlex
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table

from fewstep.bench.gallery import Gallery
from fewstep.cli.terminal import TerminalReporter
from fewstep.pages import page
from fewstep.pocket.exam import ExamSpec
from fewstep.pocket.known_words import EXAMPLE, phrase_book
from fewstep.run import launch, report_page
from fewstep.run import recipe as recipes
from fewstep.run.examination import ExaminationResult
from fewstep.run.folder import RunDir
from fewstep.run.pocket_exam import (
    COLUMNS,
    TEACHER,
    compare_with_teacher,
    examine_model,
)
from fewstep.runtime import durable
from fewstep.sample.sheet import SheetRow, contact_sheet

DEMO_EXAM = ExamSpec(cases=20, diversity=2, seeds=8)  # ours: 180 pictures a system, about a minute


def run_demo(out: Path, console: Console | None = None) -> Path:
    """Distils the pocket teacher, examines the student, writes the page. Finished parts are not done again."""
    console, begun_s = console or Console(), time.perf_counter()
    launch.distill_recipe(recipes.load_recipe("pocket"), out, TerminalReporter(console))
    examination = out / "examination"
    compare_with_teacher(out / "student", DEMO_EXAM, examination, TerminalReporter(console))
    with RunDir.open(out) as run:
        told = report_page.student_page(run, ExaminationResult.of(examination, COLUMNS), command="fewstep demo")
    written = page.write_html(_with_invitation(told, out / "student"), out / "report.html")
    picture = overview(examination)
    durable.replace_atomically(out / "overview.png", lambda path: picture.save(path, format="PNG"))
    minutes = (time.perf_counter() - begun_s) / 60
    console.print(f"[bold]{written}[/] in {minutes:.1f} min: open it in a browser", highlight=False, soft_wrap=True)
    return written


def _with_invitation(told: page.ReportPage, student: Path) -> page.ReportPage:
    """The page, with what its reader may ask the student."""
    asked = f"fewstep sample {student} -p {shlex.quote(EXAMPLE)}"
    summary = f"{told.summary} Draw with it yourself: {asked} (what else it knows is below, under “What may be asked”)."
    return replace(told, summary=summary, texts=(("What may be asked", phrase_book()), *told.texts))


def overview(examination: Path) -> Image.Image:
    """One case of each category and kind of edit, the first of each: source and the three systems, side by side."""
    galleries = {name: Gallery(examination / name) for name in COLUMNS}
    sources = Gallery(examination / "sources")
    first: dict[tuple[str, str], dict[str, Any]] = {}
    for record in galleries[TEACHER]:
        first.setdefault((record["task"], record["category"]), record)
    rows = []
    for record in first.values():
        case, seed = record["case"], record["seed"]
        source = sources.picture(case, 0) if (case, 0) in sources else None
        drawn = (gallery.picture(case, seed) for gallery in galleries.values())
        rows.append(SheetRow(record["prompt"], [source, *drawn], case))
    return contact_sheet(rows, ("source", *COLUMNS.values()))


def examine_and_show(
    source: str,
    *,
    spec: ExamSpec,
    steps: int | None,
    guidance: float | None,
    to: Path,
    adapter: str | None,
    console: Console,
) -> dict[str, Any]:
    """`examine_model`, printed."""
    reporter = TerminalReporter(console)
    found = examine_model(source, spec=spec, steps=steps, guidance=guidance, to=to, adapter=adapter, reporter=reporter)
    show_examination(found, f"{source} on held-out pocket cases", to, console)
    return found


def compare_and_show(student_folder: Path, spec: ExamSpec, to: Path, console: Console) -> dict[str, Any]:
    """`compare_with_teacher`, printed."""
    found = compare_with_teacher(student_folder, spec, to, TerminalReporter(console))
    show_examination(found, f"{student_folder} and its teacher on held-out pocket cases", to, console)
    return found


def show_examination(
    found: Mapping[str, Any], title: str, to: Path, console: Console, columns: Mapping[str, str] = COLUMNS
) -> None:
    """Prints the figures of an examination in the folder `to`. columns: system -> heading."""
    console.print(_table(found, title, columns))
    console.print(f"pictures, records and figures in [bold]{to}[/]", highlight=False, soft_wrap=True)


def _table(found: Mapping[str, Any], title: str, columns: Mapping[str, str]) -> Table:
    """Every figure of every system, and the comparison of each with the first, case by case."""
    first, *others = found["systems"]
    table = Table("figure", *(columns.get(name, name) for name in (first, *others)), "n", title=title)
    for line in found["figures"]:
        cells = [_estimate(line["values"][first])]
        cells += [f"{_estimate(line['values'][n])}\n{_against(line['against'][n], line['compared'])}" for n in others]
        table.add_row(f"{line['group']}: {line['label']}", *cells, str(line["values"][first]["n"]))
    if distance := found.get("frechet"):
        values = [f"{distance['values'][name]:.1f}" for name in (first, *others)]
        table.add_row(f"Fréchet distance (floor {distance['floor']:.1f})", *values, str(distance["n"]))
    if spread := found["diversity"]:
        cells = [_estimate(spread["values"][first])]
        cells += [f"{_estimate(spread['values'][n])}\n{_against(spread['against'][n], 'ratio')}" for n in others]
        table.add_row(f"Distance between {spread['seeds']} seeds", *cells, str(spread["prompts"]))
        met = [_estimate(spread["answers"][name]) for name in (first, *others)]
        table.add_row("Exact answers that some seed meets", *met, str(spread["prompts"]))
    return table


def _estimate(value: Mapping[str, Any]) -> str:
    between = "" if value["low"] is None else f" ({value['low']:.3f} to {value['high']:.3f})"
    return f"{value['value']:.3f}{between}"


def _against(value: Mapping[str, Any], compared: str) -> str:
    if value["value"] is None:
        return "-"
    sign = "x " if compared == "ratio" else "+" if value["value"] >= 0 else ""
    return sign + _estimate(value)
