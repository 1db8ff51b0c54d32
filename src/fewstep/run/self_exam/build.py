"""The examiner of a run, from its folder, its store and its networks."""

from collections.abc import Mapping, Sequence

from fewstep.encode.store import ConditioningStore
from fewstep.roles.roles import Roles
from fewstep.run.folder import RunDir
from fewstep.run.self_exam.drawing import ExamConditionings, ExamDrawer
from fewstep.run.self_exam.examiner import Measuring, RunClock, RunExaminer
from fewstep.run.self_exam.prepare import PlannedExam
from fewstep.run.self_exam.scoring import exam_scoring
from fewstep.runtime.parallel import Ranks
from fewstep.runtime.reporter import Reporter
from fewstep.runtime.task import Task


def run_examiner(
    run: RunDir,
    planned: PlannedExam,
    store: ConditioningStore,
    negatives: Mapping[Task, Sequence[str]],
    roles: Roles,
    ranks: Ranks,
    reporter: Reporter,
    measuring: Measuring,
) -> RunExaminer:
    """
    Args:
        store: holds the conditionings of the set, and of the negative prompts with its pictures.
        negatives: the negative prompts of each task.
        measuring: what measures pictures (`measuring.py`); it is handed in, as whoever calls imports it anyway.

    Raises:
        StoreError: a case of the set that was not encoded.
    """
    recipe, exam = run.recipe, planned.freeze(run.folder)
    batch = -(-recipe.run.batch // (ranks.world * recipe.run.gradient_accumulation))
    conditionings = ExamConditionings.load(exam.cases, store, recipe.size, negatives)
    drawer = ExamDrawer(roles, exam, conditionings, recipe.student.grid, recipe.run.precision, batch, ranks)
    assert recipe.examine is not None, "there is a planned examination"
    return RunExaminer(
        drawer,
        planned.schedule,
        planned.figures,
        recipe.examine.answers.model_dump(),
        recipe.student.ema,
        RunClock(run.metrics_path),
        reporter,
        ranks,
        measuring,
        exam_scoring(recipe.examine, roles.student.backbone.device),
    )
