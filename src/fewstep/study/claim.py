"""Claims a study's folder before its first run, once everything that its runs need is there."""

from fewstep.backbones.families import adapter_path
from fewstep.lora import file as lora_file
from fewstep.runtime.errors import AdapterError, StudyError
from fewstep.runtime.reporter import SILENT, Reporter
from fewstep.study.begin import begin_study
from fewstep.study.files import digests
from fewstep.study.folder import StudyFolder
from fewstep.study.grid import StudyGrid
from fewstep.study.shared_precision import settle_study_precision


def claim_folder(
    grid: StudyGrid, place: StudyFolder, reporter: Reporter = SILENT, *, other_cases: bool = False
) -> StudyGrid:
    """Claims the folder for this study, once everything that its runs need is there. Returns the grid with the
    precision that all runs share.

    Args:
        other_cases: it may ask another number of cases than the folder's study did so far; see `begin_study`.

    Raises:
        StudyError: it is another study's, or files that it reads have changed.
        EnvironmentRefused: the recipes' device is not available here.
        AdapterError, ModelError: a teacher's LoRA that cannot be read.
        CaseError: missing cases.
    """
    _refuse_missing_teachers(grid)
    began = place.record.is_file()
    settled = settle_study_precision(grid, place, reporter)
    try:
        _begin(settled, place, other_cases, reporter)
    except StudyError:
        if began or not place.record.is_file():
            raise
        settled = settle_study_precision(grid, place, reporter)  # another job began it meanwhile: its precision holds
        _begin(settled, place, other_cases, reporter)
    return settled


def _begin(grid: StudyGrid, place: StudyFolder, other_cases: bool, reporter: Reporter) -> None:
    definition = grid.definition() | {"files": digests(run.recipe for run in grid.runs)}
    seeds = tuple(dict.fromkeys(run.seed for run in grid.runs))
    asked = place, grid.plan, definition, grid.recipe.run.iterations, seeds, covers(grid)
    begin_study(*asked, other_cases=other_cases, reporter=reporter)


def _refuse_missing_teachers(grid: StudyGrid) -> None:
    """Reads every LoRA that some run needs. This is quick and happens before the first run, which is not."""
    named = {name: spec for run in grid.runs for name, spec in run.recipe.teachers.named.items()}
    before = grid.plan.worlds[grid.world].before
    for spec in named.values():
        if spec.adapter is not None:
            try:
                lora_file.read_lora(adapter_path(spec.adapter))
            except AdapterError as error:
                if before is None:
                    raise
                raise AdapterError(f"{error}. This one is made by: {before}") from error


def covers(grid: StudyGrid) -> dict[str, dict[str, list[str] | None]]:
    """The tasks and categories that each examined specialised teacher teaches."""
    found: dict[str, dict[str, list[str] | None]] = {}
    for name in grid.teachers:
        spec = grid.teacher(name)
        if spec is not None:
            tasks, categories = spec.tasks, spec.categories
            found[name] = {
                "tasks": None if tasks is None else list(tasks),
                "categories": None if categories is None else list(categories),
            }
    return found
