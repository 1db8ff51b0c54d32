"""`fewstep demo`, `fewstep pocket student` and `fewstep pocket examine`: a student, its teacher, and the page that
compares them."""

import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console

from fewstep.bench.gallery import Gallery
from fewstep.cli.terminal import TerminalReporter
from fewstep.cli.verbs.demo_kinds import Demo, Question, first_of_each_kind
from fewstep.cli.verbs.examination_table import examination_table
from fewstep.pages import page
from fewstep.pocket.exam import ExamSpec
from fewstep.pocket.harder import systems
from fewstep.pocket.harder.exam import HarderExamSpec
from fewstep.pocket.harder.known_words import HARDER_WORDS
from fewstep.pocket.known_words import POCKET_WORDS
from fewstep.pocket.known_world import KnownWorld
from fewstep.run import launch, report_page
from fewstep.run import recipe as recipes
from fewstep.run.examination import ExaminationResult
from fewstep.run.folder import RunDir
from fewstep.run.pocket_exam import (
    COLUMNS,
    compare_with_teacher,
    examine_model,
)
from fewstep.runtime import durable
from fewstep.runtime.errors import RecipeError, RunError
from fewstep.runtime.reporter import Reporter
from fewstep.sample.sheet import SheetRow, contact_sheet

DEMO_EXAM = ExamSpec(cases=20, diversity=2, seeds=8)  # ours: 180 pictures a system, about a minute
HARDER_DEMO_EXAM = HarderExamSpec(cases=12, diversity=2, seeds=8)  # ours: 144 cases, two minutes
CELL = 256  # px: pictures of 64 to 128 px are enlarged by whole numbers
SOURCES = ("source", "image 2", "image 3")


def _examine_harder(student: Path, to: Path, reporter: Reporter) -> dict[str, Any]:
    return systems.compare_harder(student, HARDER_DEMO_EXAM, to, reporter=reporter)


def _examine_pocket(student: Path, to: Path, reporter: Reporter) -> dict[str, Any]:
    return compare_with_teacher(student, DEMO_EXAM, to, reporter)


DEMOS: Mapping[str, Demo] = {
    "harder": Demo(
        partial(recipes.load_recipe, "pocket-harder"),
        _examine_harder,
        systems.SHOWN,
        lambda: first_of_each_kind(HARDER_DEMO_EXAM.questions()),
        HARDER_WORDS,
    ),
    "pocket": Demo(
        partial(recipes.load_recipe, "pocket"),
        _examine_pocket,
        COLUMNS,
        lambda: first_of_each_kind(DEMO_EXAM.questions()),
        POCKET_WORDS,
    ),
}


def run_demo(
    out: Path, console: Console | None = None, demo: Demo = DEMOS["harder"], command: str = "fewstep demo"
) -> dict[str, Any]:
    """Distils the teacher, examines the student, writes the page. Finished parts are not done again. Returns the
    figures.

    Raises:
        RunError: `out` is the demo of another world.
    """
    console, begun_s = console or Console(), time.perf_counter()
    recipe = demo.recipe()
    refuse_other_demo(out, recipe.model)
    launch.distill_recipe(recipe, out, TerminalReporter(console), demo.extensions)
    examination = out / "examination"
    found = demo.examine(out / "student", examination, TerminalReporter(console))
    with RunDir.open(out) as run:
        told = report_page.student_page(run, ExaminationResult.of(examination, demo.columns), command=command)
    written = page.write_html(_with_invitation(told, out / "student", demo.words), out / "report.html")
    picture = overview(examination, demo.columns, demo.shown())
    durable.replace_atomically(out / "overview.png", lambda path: picture.save(path, format="PNG"))
    minutes = (time.perf_counter() - begun_s) / 60
    console.print(f"[bold]{written}[/] in {minutes:.1f} min: open it in a browser", highlight=False, soft_wrap=True)
    return found


def refuse_other_demo(out: Path, model: str) -> None:
    """
    Raises:
        RunError: `out` is the demo of another world.
    """
    with suppress(OSError, RecipeError):
        begun = recipes.load_recipe(out / "recipe.yaml").model
        others = {demo.recipe().model: world for world, demo in DEMOS.items()}
        if begun != model and begun in others:
            raise RunError(
                f"{out} is the demo of the {others[begun]} world; `fewstep demo --world {others[begun]}` goes on with "
                "it. For another world give another --out"
            )


def _with_invitation(told: page.ReportPage, student: Path, words: KnownWorld) -> page.ReportPage:
    """The page, with what its reader may ask the student."""
    asked = f"fewstep sample {student} -p {shlex.quote(words.example)}"
    summary = f"{told.summary} Draw with it yourself: {asked} (what else it knows is below, under “What may be asked”)."
    return replace(told, summary=summary, texts=(("What may be asked", words.phrase_book()), *told.texts))


def overview(examination: Path, columns: Mapping[str, str], shown: Sequence[Question]) -> Image.Image:
    """A row for each question: its sources and the systems' answers, side by side."""
    galleries = {name: Gallery(examination / name) for name in columns}
    rows = []
    for case, seed in shown:
        given = [*case.references, *[None] * (len(SOURCES) - len(case.references))]
        drawn = (gallery.picture(case.id, seed) for gallery in galleries.values())
        rows.append(SheetRow(case.prompt, [*given, *drawn], case.id))
    return contact_sheet(rows, (*SOURCES, *columns.values()), CELL)


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
    console.print(examination_table(found, title, columns))
    console.print(
        "beside a value: how it differs from the first column, case by case; * the whole 95 % interval is on one side",
        highlight=False,
    )
    console.print(
        f"pictures, records and figures, with all intervals, in [bold]{to}[/]", highlight=False, soft_wrap=True
    )
