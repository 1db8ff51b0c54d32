"""A student of the harder world: cases, run, and examination beside its teacher. Finished parts are not done again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.run.distill import distill
from fewstep.run.recipe import Recipe, load_recipe
from fewstep.runtime.reporter import Reporter
from fewstep.runtime.task import TASKS, Task
from pocket_making.harder.exam import HarderExamSpec
from pocket_making.harder.run_examiner import reader_eval
from pocket_making.harder.systems import compare_harder, refuse_no_harder
from pocket_making.harder.training_cases import write_training_cases

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
        given = [f"model={self.teacher}", *(f"data.{task}=[{{source: '{cases / task}.jsonl'}}]" for task in TASKS)]
        return load_recipe(RECIPE, [*given, *self.settings])


def distil_harder(asked: HarderDistillation, out: Path, spec: HarderExamSpec, reporter: Reporter) -> dict[str, Any]:
    """`out/cases`, `out/run` with the student, and `out/examination`, whose figures are returned.

    Raises:
        FewstepError: whatever speaks against teacher, reader or run, before its first long step.
    """
    refuse_no_harder(asked.teacher)
    examiner, recipe = reader_eval(asked.reader), asked.recipe(out / "cases")
    with reporter.waiting("drawing cases"):
        list(write_training_cases(out / "cases", dict(asked.counts)))
    ended = distill(recipe, out / "run", examiner=examiner, reporter=reporter)
    assert ended.student is not None, "nothing stops the run"
    return compare_harder(asked.teacher, ended.student, asked.reader, spec, out / "examination", reporter)
