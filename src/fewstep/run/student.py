"""Exports the student of a run: from which checkpoint, and in which form."""

from collections.abc import Collection
from pathlib import Path

from torch import Tensor

from fewstep.backbones.embedded import is_embedded
from fewstep.export import card
from fewstep.export.folder import DEFAULT_OPTIONS, ExportOptions, StudentWeights, export_lora, export_student
from fewstep.export.leftovers import remove_leftovers
from fewstep.export.lora import Lora
from fewstep.export.run_student import RunStudent
from fewstep.run.best_by import comes_later
from fewstep.run.folder import RunDir
from fewstep.run.self_exam.ranked import judged_best, ranked_best
from fewstep.runtime.errors import RunError
from fewstep.runtime.reporter import SILENT, Reporter
from fewstep.train.checkpoint import (
    Checkpoints,
    content_fault,
    files_of,
    load_checkpoint,
)
from fewstep.train.kept_students import STEM, KeptStudent, KeptStudents

RAW = "student"  # of a checkpoint's files: the weights that learn


def export_from_run(
    run: RunDir,
    to: Path,
    which: str,
    form: str = "merged",
    options: ExportOptions = DEFAULT_OPTIONS,
    reporter: Reporter = SILENT,
    weights: card.WeightsKind = "average",
) -> RunStudent:
    """Writes the student, and returns it as the run holds it (cut down to a lower rank if the options say so).

    Args:
        which: `last`, `best` (what `fewstep rank` chose, else what the run's figure did, else the last), or any
            iteration whose student is kept.
        form: merged: a whole pipeline folder. adapter: the LoRA alone.
        weights: average: the averaged student. raw: the student itself, which whole checkpoints alone hold.
    """
    recipe, plan = run.recipe, run.recipe.student
    student, learned = _raw_student_of(run, which) if weights == "raw" else student_weights(run, which)
    remove_leftovers(to.absolute().parent, lambda text: reporter.say(text, "warning"))
    kind = "raw" if weights == "raw" else "averaged"
    reporter.say(f"exporting the {kind} student of iteration {student.iteration:,}, {student.place}")
    about = card.StudentInfo(
        name=recipe.name,
        size=recipe.size,
        base_name=_base_name(recipe.model),
        recipe_name=recipe.name,
        tasks=dict(student.tasks),
        learned_from=recipe.learned_from,
        iteration=student.iteration,
        weights=weights,
    )
    alpha = None if plan.mode == "full" else plan.adapter.alpha
    asked = recipe.model, StudentWeights(learned, plan.mode, alpha), plan.grid, to, recipe.resolved_yaml(), about
    if form == "adapter" and alpha is not None:
        export_lora(*asked, options)
    else:
        export_student(*asked, options, warn=lambda text: reporter.say(text, "warning"))
    if alpha is None:
        return RunStudent(learned, None)
    lora, files = Lora.of(learned, alpha), options.files
    return RunStudent({}, lora if files is None or files.svd_rank is None else lora.of_rank(files.svd_rank))


def student_weights(run: RunDir, which: str) -> tuple[KeptStudent, dict[str, Tensor]]:
    """The averaged student of an iteration, or of the checkpoint that is the last or the best, and its weights."""
    which = _ranked(run, which)
    if which.isdecimal():
        students = KeptStudents(run.folder)
        found = students.find(int(which))
        return found, students.load(found.iteration)
    place = checkpoint_of(run, which, [STEM])
    tensors, state = load_checkpoint(place, stems=[STEM], checked=True)
    return KeptStudent(state["iteration"], state["tasks"], place), tensors[STEM]


def _raw_student_of(run: RunDir, which: str) -> tuple[KeptStudent, dict[str, Tensor]]:
    """The same of the weights that learn."""
    place = checkpoint_of(run, _ranked(run, which), [RAW])
    tensors, state = load_checkpoint(place, stems=[RAW], checked=True)
    return KeptStudent(state["iteration"], state["tasks"], place), tensors[RAW]


def _ranked(run: RunDir, which: str) -> str:
    """The same, but `best` is what `fewstep rank` chose among all kept students, where it was called; else what a judge
    did, where `run.best_by` is its figure."""
    if which != "best":
        return which
    ranked, by = ranked_best(run.folder), run.recipe.run.best_by
    if ranked is None and by is not None and comes_later(run.recipe):
        ranked = judged_best(run.folder, by, [i for i in KeptStudents(run.folder).iterations() if i])
    return which if ranked is None else str(ranked)


def _base_name(model: str) -> str | None:
    """The model's hub id, if it has one."""
    return None if is_embedded(model) or Path(model).is_dir() else model


def checkpoint_of(run: RunDir, which: str, stems: Collection[str] | None = None) -> Path:
    """A whole checkpoint by name, complete and as it was written: `last`, `best` (the last if no figure decided), or an
    iteration. Never another one in its place. Of most iterations a run keeps the averaged student alone.

    Args:
        stems: the file stems that will be read of it, whose hashes are compared; None means all.

    Raises:
        RunError: there is none of that name, or it is damaged. The message lists the complete ones.
    """
    held = Checkpoints(run.checkpoints, keep=1)
    last = held.newest()
    if last is None or held.latest() is None:
        raise RunError(f"{run.folder} has no whole checkpoint yet; let it train until the first is saved")
    kept = ", ".join(map(str, sorted(held.complete_iterations()))) or "none"
    if which.isdecimal():
        place = run.checkpoints / f"iteration-{int(which):06d}"
        if not place.is_dir():
            raise RunError(_no_checkpoint(run, int(which), kept))
        return _intact(place, stems, f"the checkpoint of iteration {which}", kept)
    if which not in ("best", "last"):
        raise RunError(f"--checkpoint is best, last or an iteration's number, not '{which}'")
    if which == "best":
        _intact(last, [], "the newest checkpoint, which says which is best", kept)
        best = load_checkpoint(last, stems=[], checked=True)[1]["best"]
        if best is not None:
            place = run.checkpoints / f"iteration-{best['iteration']:06d}"
            return _intact(place, stems, f"the best of {run.folder}", kept)
    return _intact(last, stems, "the newest checkpoint", kept)


def _no_checkpoint(run: RunDir, iteration: int, kept: str) -> str:
    told = f"{run.folder} keeps no whole checkpoint of iteration {iteration}; it has: {kept}"
    if iteration not in KeptStudents(run.folder).iterations():
        return told
    return (
        f"{told}. Of {iteration} the averaged student is kept, without optimiser and critic: export it, or begin a new "
        "run from it (fewstep export --form adapter, then student.init_from)"
    )


def _intact(place: Path, stems: Collection[str] | None, what: str, kept: str) -> Path:
    if (fault := content_fault(place, files_of(place, stems))) is not None:
        raise RunError(f"{place}, {what}, cannot be used: {fault}. Name another by its iteration; complete are: {kept}")
    return place
