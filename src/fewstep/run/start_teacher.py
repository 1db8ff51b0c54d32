"""A student that begins as a LoRA, of which the base teaches steps alone: there it unlearns what it began as.

On Gaussian mixtures it ended at 2.4 times the distance from the LoRA's law that it began at, and at a fifth of it where
the LoRA taught every step (docs/lab/lora-teacher.md).
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from fewstep.roles.plan import StudentPlan, TeachersSpec
from fewstep.roles.teacher_plan import TeacherPlan, TeacherSchedule, teacher_plan
from fewstep.runtime.task import Task


def unlearnt_starts(student: StudentPlan, teachers: TeachersSpec, tasks: Iterable[Task]) -> Iterator[str]:
    """A line for each teacher whose adapter the student begins as, and that leaves steps of its own samples to the
    base.

    tasks: those that have batches.

    Raises:
        RecipeError: as `teacher_plan`.
    """
    plan, start = teacher_plan(teachers, student.steps), student.init_from
    for schedule in plan.schedules:
        adapter = teachers.named[schedule.name].adapter
        if start is None or adapter is None or not _same(start, adapter):
            continue
        bare = sorted({k for task in tasks for k in _bare_steps(plan, schedule, task, student.steps)})
        if bare:
            yield (
                f"student.init_from is the adapter of teachers.named.{schedule.name}, but at student steps "
                f"{', '.join(map(str, bare))} the base teaches alone: there the student unlearns what it begins as. "
                f"Let the LoRA teach every step (teachers.named.{schedule.name}.anchor: true), or let the student "
                "begin as the base (student.init_from: null)"
            )


def _bare_steps(plan: TeacherPlan, schedule: TeacherSchedule, task: Task, steps: int) -> list[int]:
    """The student steps at which samples that the teacher teaches have the base alone, once the ramp is over."""
    categories = [category for category in schedule.categories or (None,) if schedule.teaches(task, category)]
    return [k for k in range(steps) if any(plan.row(k, 1.0, task, category)[0] == 1.0 for category in categories)]


def _same(one: str, other: str) -> bool:
    return one == other or Path(one).resolve() == Path(other).resolve()
