"""`fewstep demo` and `fewstep pocket examine`: a student, its teacher, and the page that compares them."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fewstep.backbones.families import POCKET
from fewstep.bench.gallery import Gallery
from fewstep.cli.terminal import TerminalReporter
from fewstep.flow.guidance import NO_GUIDANCE, Guidance
from fewstep.pages import page
from fewstep.pocket import exam
from fewstep.pocket.exam import ExaminedSystem, ExamSpec
from fewstep.pocket.probe import Probe
from fewstep.pocket.systems import (
    TASKS,
    ConditioningCache,
    adapter_over,
    system_of,
)
from fewstep.run import launch, report_page
from fewstep.run import recipe as recipes
from fewstep.run.examination import ExaminationResult
from fewstep.run.folder import RunDir
from fewstep.runtime import durable
from fewstep.runtime.errors import ModelError
from fewstep.runtime.task import Task
from fewstep.sample.pictures import Model, open_model
from fewstep.sample.sheet import contact_sheet

TEACHER, TEACHER_FEW, STUDENT = "teacher", "teacher-4", "student"
COLUMNS = {TEACHER: "Teacher, 40 steps", TEACHER_FEW: "Teacher, 4 steps", STUDENT: "Student, 4 steps"}
DEMO_EXAM = ExamSpec(cases=20, diversity=2, seeds=8)  # ours: 180 pictures a system, about a minute
STEPS = 4


def run_demo(out: Path, console: Console | None = None) -> Path:
    """Distils the pocket teacher, examines the student, writes the page. Finished parts are not done again."""
    console, begun_s = console or Console(), time.perf_counter()
    launch.distill_recipe(recipes.load_recipe("pocket"), out, TerminalReporter(console))
    examination = out / "examination"
    compare_with_teacher(out / "student", DEMO_EXAM, examination, console)
    with RunDir.open(out) as run:
        told = report_page.student_page(run, ExaminationResult.of(examination, COLUMNS), command="fewstep demo")
    written = page.write_html(told, out / "report.html")
    picture = overview(examination)
    durable.replace_atomically(out / "overview.png", lambda path: picture.save(path, format="PNG"))
    minutes = (time.perf_counter() - begun_s) / 60
    console.print(f"[bold]{written}[/] in {minutes:.1f} min: open it in a browser", highlight=False, soft_wrap=True)
    return written


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
        rows.append((record["prompt"], [source, *(gallery.picture(case, seed) for gallery in galleries.values())]))
    return contact_sheet(rows, ("source", *COLUMNS.values()))


def compare_with_teacher(student_folder: Path, spec: ExamSpec, to: Path, console: Console) -> dict[str, Any]:
    """Examines three systems on the same questions with the probe: the teacher at its full sampler, the teacher at the
    student's few steps without guidance, and the student."""
    teacher, own = open_model(POCKET), open_model(student_folder)
    if not own.is_student:
        raise ModelError(f"{student_folder} is no student: its model_index.json has no sample_sigmas")
    encoded = ConditioningCache(teacher.backbone)  # the student carries the same text encoder and VAE
    systems = {
        TEACHER: system_of(teacher, guidance=teacher_guidance(), encoded=encoded),
        TEACHER_FEW: system_of(teacher, steps=STEPS, guidance=dict.fromkeys(TASKS, NO_GUIDANCE), encoded=encoded),
        STUDENT: system_of(own, encoded=encoded),
    }
    return _examined(systems, spec, to, console)


def examine_model(
    source: str,
    *,
    spec: ExamSpec,
    steps: int | None,
    guidance: float | None,
    to: Path,
    adapter: str | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Examines one model on held-out pocket cases, and beside it the same with `adapter` on (at the model's own
    guidance). Pictures, records and figures go to `to`; the figures are printed."""
    console = console or Console()
    model = open_model(source)
    encoded, chosen = ConditioningCache(model.backbone), _chosen_guidance(model, source, guidance)
    systems = {"model": system_of(model, steps, chosen, encoded)}
    if adapter is not None:
        systems["with adapter"] = system_of(model, steps, chosen, encoded, adapter_over(model, adapter))
    found = _examined(systems, spec, to, console)
    console.print(_table(found, f"{source} on held-out pocket cases"))
    console.print(f"pictures, records and figures in [bold]{to}[/]", highlight=False, soft_wrap=True)
    return found


def compare_and_show(student_folder: Path, spec: ExamSpec, to: Path, console: Console) -> dict[str, Any]:
    """Runs `compare_with_teacher` and prints the figures."""
    found = compare_with_teacher(student_folder, spec, to, console)
    console.print(_table(found, f"{student_folder} and its teacher on held-out pocket cases"))
    console.print(f"pictures, records and figures in [bold]{to}[/]", highlight=False, soft_wrap=True)
    return found


def _table(found: Mapping[str, Any], title: str) -> Table:
    """Every figure of every system, and the comparison of each with the first, case by case."""
    first, *others = found["systems"]
    table = Table("figure", *(COLUMNS.get(name, name) for name in (first, *others)), "n", title=title)
    for line in found["figures"]:
        cells = [_estimate(line["values"][first])]
        cells += [f"{_estimate(line['values'][n])}\n{_against(line['against'][n], line['compared'])}" for n in others]
        table.add_row(f"{line['group']}: {line['label']}", *cells, str(line["values"][first]["n"]))
    distance = found["frechet"]
    values = [f"{distance['values'][name]:.1f}" for name in (first, *others)]
    table.add_row(f"Fréchet distance (floor {distance['floor']:.1f})", *values, str(distance["n"]))
    if spread := found["diversity"]:
        cells = [_estimate(spread["values"][first])]
        cells += [f"{_estimate(spread['values'][n])}\n{_against(spread['against'][n], 'ratio')}" for n in others]
        table.add_row(f"Distance between {spread['seeds']} seeds", *cells, str(spread["prompts"]))
    return table


def _estimate(value: Mapping[str, Any]) -> str:
    between = "" if value["low"] is None else f" ({value['low']:.3f} to {value['high']:.3f})"
    return f"{value['value']:.3f}{between}"


def _against(value: Mapping[str, Any], compared: str) -> str:
    return ("x " if compared == "ratio" else "+ ") + _estimate(value) if value["value"] is not None else "-"


def teacher_guidance() -> Mapping[Task, Guidance]:
    """The guidance of the pocket teacher in the shipped recipe."""
    given = recipes.load_recipe(POCKET).teachers.base.guidance or {}
    return {task: given[task].guidance() if task in given else NO_GUIDANCE for task in TASKS}


def _chosen_guidance(model: Model, source: str, scale: float | None) -> Mapping[Task, Guidance]:
    if scale is not None:
        return dict.fromkeys(TASKS, Guidance(scale))
    if source == POCKET:
        return teacher_guidance()
    return dict.fromkeys(TASKS, model.guidance)


def _examined(systems: Mapping[str, ExaminedSystem], spec: ExamSpec, to: Path, console: Console) -> dict[str, Any]:
    columns = (TextColumn("examining"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress, torch.no_grad():
        bar = progress.add_task("", total=len(spec.questions()) * len(systems))
        return exam.examine(systems, spec, Probe.load(), to, lambda count: progress.advance(bar, count))
