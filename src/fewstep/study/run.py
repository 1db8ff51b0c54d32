"""Runs a study from its grid into its folder: the teachers are examined once, then one run follows another. The same
call continues where the last one stopped: finished parts are skipped, interrupted ones are resumed."""

from collections.abc import Sequence
from pathlib import Path

from fewstep.run import launch
from fewstep.run.extensions import Extensions
from fewstep.runtime.errors import RunError, StudyError
from fewstep.runtime.reporter import SILENT, Reporter
from fewstep.study.claim import claim_folder
from fewstep.study.examination import Examination, is_examined, refuse_unknown_categories
from fewstep.study.folder import StudyFolder, open_study
from fewstep.study.forecast import picture_count
from fewstep.study.grid import Run, StudyGrid
from fewstep.study.phrasing import premise_words
from fewstep.study.results import results
from fewstep.study.worlds import EXAMINED
from fewstep.train.kept_students import KeptStudents


def run_study(
    grid: StudyGrid, to: Path, reporter: Reporter = SILENT, *, only: int | None = None, other_cases: bool = False
) -> StudyFolder:
    """Does everything that is left to do, or one part of it.

    Args:
        other_cases: the study may go on with another number of held-out cases than before. Its runs stay, and the
            students that they keep are examined anew.
        only: the number of one run in the plan; the number after the last run means the teachers.

    Raises:
        StudyError: the folder is another study's, or `only` is no number of the plan.
        FewstepError: whatever a run refuses; before the first run if it can be known then.
    """
    place = StudyFolder(to)
    if only is not None and not 0 <= only <= len(grid.runs):
        raise StudyError(f"--cell {only}: the plan has runs 0 to {len(grid.runs) - 1}, and {len(grid.runs)}: teachers")
    world = EXAMINED.get(grid.recipe.model)
    if world is not None:
        refuse_unknown_categories(grid.plan, world)
    if other_cases and world is not None:
        _refuse_unkept(grid, place)
    grid = claim_folder(grid, place, reporter, other_cases=other_cases and world is not None)
    for said in grid.reset:
        reporter.say(said)
    examination = None if world is None else Examination(grid, place, world, reporter)
    if examination is not None and only in (None, len(grid.runs)):
        examination.teachers()
        _tell_premises(place, reporter)
    for run in grid.runs:
        if only in (None, run.number):
            _run(run, grid, place, examination, reporter)
    return place


def _tell_premises(place: StudyFolder, reporter: Reporter) -> None:
    """What the teachers alone already show: hours of runs cannot decide what was never on trial."""
    for premise in results(place.folder)["premises"]:
        if premise["state"] != "not examined":
            reporter.say(f"premise {premise['state']}: {premise['says']}; {premise_words(premise)}")
        if premise["state"] == "absent":
            named = " and ".join(map(str, premise["takeaways"])) or "all of this study's"
            settled = all(row.startswith("teacher:") for row in premise["rows"])
            how = "whatever the runs show" if settled else "unless further runs show otherwise"
            reporter.say(f"the verdict on takeaways {named} will be 'premise absent', {how}")


def finished(run: Run, grid: StudyGrid, place: StudyFolder) -> bool:
    """Whether a run is complete: its student and all its examinations exist."""
    return _trained(run, place) and not _unexamined(run, grid, place)


def _trained(run: Run, place: StudyFolder) -> bool:
    student = place.run(run.name) / "student"
    return student.is_dir() and any(student.iterdir())


def _unexamined(run: Run, grid: StudyGrid, place: StudyFolder) -> list[int]:
    """The moments of a run without verdicts on all cases; none for models that cannot be examined here."""
    world = EXAMINED.get(grid.recipe.model)
    if world is None:
        return []
    return [i for i in grid.moments if not is_examined(place.student(run.name, i), world, picture_count(grid))]


def _run(run: Run, grid: StudyGrid, place: StudyFolder, examination: Examination | None, reporter: Reporter) -> None:
    said = f"run {run.number + 1} of {len(grid.runs)}: {run.name}"
    if finished(run, grid, place):
        reporter.say(f"{said} is done")
        return
    reporter.say(said)
    if not _trained(run, place):
        examiner = None if examination is None else examination.student_eval(run)
        launch.distill_recipe(run.recipe, place.run(run.name), reporter, Extensions(examiner))
    if examination is not None and (missing := _unexamined(run, grid, place)):
        if lost := _not_kept(run, place, missing):
            raise RunError(
                f"{place.run(run.name)} is trained, but its examination after {lost[0]} iterations is gone, and its "
                f"weights of then are not kept; {place.to_make_again(run.name)}"
            )
        examination.kept_students(run, missing)


def _not_kept(run: Run, place: StudyFolder, moments: Sequence[int]) -> list[int]:
    kept = KeptStudents(place.run(run.name)).iterations()
    return [moment for moment in moments if moment not in kept]


def _refuse_unkept(grid: StudyGrid, place: StudyFolder) -> None:
    """
    Raises:
        StudyError: another number of cases is asked of a study that was begun, and a trained run does not keep a
            student that was examined, or not all of the study's runs are asked for.
    """
    held = open_study(place.folder) if place.record.is_file() else None
    if held is None or held.plan.protocol.cases == grid.plan.protocol.cases:
        return
    if not {*held.seeds} <= {run.seed for run in grid.runs}:
        raise StudyError(
            f"--cases {grid.plan.protocol.cases}: {place.folder} has runs of seeds {', '.join(map(str, held.seeds))}, "
            f"and all are to be examined alike; give --seeds {len(held.seeds)} too"
        )
    for run in grid.runs:
        if _trained(run, place) and (lost := _not_kept(run, place, held.moments)):
            raise StudyError(
                f"--cases {grid.plan.protocol.cases}: {place.run(run.name)} does not keep its student of {lost[0]} "
                f"iterations, so it cannot be examined on other cases; {place.to_make_again(run.name)}"
            )
