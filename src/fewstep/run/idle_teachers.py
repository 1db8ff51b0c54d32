"""Teachers that would never teach, because no case is theirs: known once the cases are read, before the model is."""

from collections.abc import Mapping

from fewstep.data.composition import Composition
from fewstep.roles.plan import TeachersSpec
from fewstep.roles.teacher_plan import teacher_plan
from fewstep.runtime.errors import RecipeError
from fewstep.runtime.task import Task


def refuse_idle_teachers(teachers: TeachersSpec, steps: int, composition: Composition) -> None:
    """A teacher whose tasks have no batches is no mistake: `tasks.edit=0` makes many. One without weight is told of in
    `run/preflight.py`.

    Raises:
        RecipeError: no case of a teacher's tasks has one of its categories.
    """
    held: Mapping[Task, set[str]] = {
        task: {case.category for case in composition.cases() if case.task == task} for task in composition.tasks
    }
    for name in teacher_plan(teachers, steps).used[1:]:
        teacher = teachers.named[name]
        theirs = [task for task in composition.tasks if teacher.tasks is None or task in teacher.tasks]
        there = set().union(*(held[task] for task in theirs))
        if teacher.categories is None or not theirs or there.intersection(teacher.categories):
            continue
        key, named, known = f"teachers.named.{name}", ", ".join(teacher.categories), ", ".join(sorted(there))
        raise RecipeError(
            f"{key}.categories [{named:.200}] match no case, so it would never teach; the {' and '.join(theirs)} cases "
            f"have: {known:.400}. Name one of these, or take the teacher out ({key}: null)"
        )
