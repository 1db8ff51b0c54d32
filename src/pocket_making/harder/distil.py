"""A student of the harder world: cases, run, examination and page. Finished parts are not done again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.pages import page
from fewstep.pocket.harder.exam import HarderExamSpec
from fewstep.pocket.harder.run_examiner import reader_eval
from fewstep.pocket.harder.systems import CEILING, COLUMNS, compare_harder, refuse_no_harder
from fewstep.pocket.harder.training_cases import write_training_cases
from fewstep.run import report_page
from fewstep.run.distill import distill
from fewstep.run.examination import ExaminationResult
from fewstep.run.folder import RunDir
from fewstep.run.recipe import Recipe, load_recipe
from fewstep.runtime.reporter import Reporter
from fewstep.runtime.task import TASKS, Task

RECIPE = Path(__file__).parent / "recipe.yaml"


@dataclass(frozen=True)
class HarderDistillation:
    """teacher, reader: folders; counts: cases to distil with; settings: further keys of the recipe, as `--set`."""

    teacher: Path
    reader: Path
    counts: Mapping[Task, int]
    settings: Sequence[str] = ()

    def recipe(self, cases: Path) -> Recipe:
        """The recipe over the files of cases in this folder."""
        given: dict[str, Any] = {"model": str(self.teacher)}
        given |= {f"data.{task}": [{"source": str(cases / f"{task}.jsonl")}] for task in TASKS}
        return load_recipe(RECIPE, [*(f"{key}={json.dumps(value)}" for key, value in given.items()), *self.settings])


def distil_harder(asked: HarderDistillation, out: Path, spec: HarderExamSpec, reporter: Reporter) -> dict[str, Any]:
    """`out/cases`, `out/run` with the student, `out/examination`, whose figures are returned, and `out/report.html`.

    Raises:
        FewstepError: whatever speaks against teacher, reader or run, before its first long step.
    """
    refuse_no_harder(asked.teacher)
    examiner, recipe = reader_eval(asked.reader), asked.recipe(out / "cases")
    with reporter.waiting("drawing cases"):
        write_training_cases(out / "cases", asked.counts)
    ended = distill(recipe, out / "run", examiner=examiner, reporter=reporter)
    assert ended.student is not None, "nothing stops the run"
    found = compare_harder(asked.teacher, ended.student, asked.reader, spec, out / "examination", reporter)
    write_report(out)
    return found


def write_report(out: Path) -> Path:
    """`out/report.html`: the run and its examination on one page."""
    shown = {name: heading for name, heading in COLUMNS.items() if name != CEILING}
    with RunDir.open(out / "run") as run:
        result = ExaminationResult.of(out / "examination", shown)
        told = report_page.student_page(run, result, command="fewstep pocket student")
    return page.write_html(told, out / "report.html")
