"""Exports the student of a run: from which checkpoint, and in which form."""

from pathlib import Path

from fewstep.backbones.families import POCKET
from fewstep.export import card
from fewstep.export.folder import DEFAULT_OPTIONS, ExportOptions, StudentWeights, export_lora, export_student
from fewstep.export.lora import Lora
from fewstep.export.run_student import RunStudent
from fewstep.run.folder import RunDir
from fewstep.runtime.errors import RunError
from fewstep.train.checkpoint import (
    Checkpoints,
    checkpoint_fault,
    load_checkpoint,
)


def export_from_run(
    run: RunDir, to: Path, which: str, form: str = "merged", options: ExportOptions = DEFAULT_OPTIONS
) -> RunStudent:
    """Writes the student, and returns it as the run holds it (cut down to a lower rank if the options say so).

    Args:
        which: a checkpoint, as `checkpoint_of` names it.
        form: merged: a whole pipeline folder. adapter: the LoRA alone.
    """
    recipe, plan = run.recipe, run.recipe.student
    tensors, state = load_checkpoint(checkpoint_of(run, which), stems=["student_average"])
    about = card.StudentInfo(
        name=recipe.name,
        size=recipe.size,
        base_name=_base_name(recipe.model),
        recipe_name=recipe.name,
        tasks=state["tasks"],
        learned_from=recipe.learned_from,
    )
    learned, alpha = tensors["student_average"], None if plan.mode == "full" else plan.adapter.alpha
    weights = StudentWeights(learned, plan.mode, alpha)
    write = export_lora if form == "adapter" and alpha is not None else export_student
    write(recipe.model, weights, plan.grid, to, recipe.resolved_yaml(), about, options)
    if alpha is None:
        return RunStudent(learned, None)
    lora, files = Lora.of(learned, alpha), options.files
    return RunStudent({}, lora if files is None or files.svd_rank is None else lora.of_rank(files.svd_rank))


def _base_name(model: str) -> str | None:
    """The model's hub id, if it has one."""
    return None if model == POCKET or Path(model).is_dir() else model


def checkpoint_of(run: RunDir, which: str) -> Path:
    """A complete checkpoint by name: `last`, `best` (the last if no figure decided), or an iteration.

    Raises:
        RunError: there is none of that name.
    """
    last = Checkpoints(run.checkpoints, keep=1).latest()
    if last is None:
        raise RunError(f"{run.folder} has no whole checkpoint yet; let it train until the first is saved")
    if which == "last":
        return last
    if which == "best":
        best = load_checkpoint(last, stems=[])[1]["best"]
        if best is None:
            return last
        place = run.checkpoints / f"iteration-{best['iteration']:06d}"
        if (fault := checkpoint_fault(place)) is not None:
            raise RunError(f"{place}, the best of {run.folder}, cannot be used: {fault}. Name another, or last")
        return place
    if not which.isdecimal():
        raise RunError(f"--checkpoint is best, last or an iteration's number, not '{which}'")
    place = run.checkpoints / f"iteration-{int(which):06d}"
    if checkpoint_fault(place) is not None:
        kept = ", ".join(map(str, sorted(Checkpoints(run.checkpoints, keep=1).complete_iterations())))
        raise RunError(f"{run.folder} keeps no checkpoint of iteration {which}; it has: {kept}")
    return place
