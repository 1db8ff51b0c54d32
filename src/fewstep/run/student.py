"""From a run folder to its student: which checkpoint, in which form."""

from pathlib import Path

from fewstep.backbones.families import POCKET
from fewstep.export import card
from fewstep.export.folder import export_lora, export_student
from fewstep.export.lora import Lora, LoraFiles
from fewstep.export.run_student import RunStudent
from fewstep.run.folder import RunDir
from fewstep.runtime.errors import RunError
from fewstep.train.checkpoint import (
    Checkpoints,
    checkpoint_fault,
    load_checkpoint,
)


def export_from_run(
    run: RunDir,
    to: Path,
    which: str,
    form: str = "merged",
    dtype: str | None = None,
    files: LoraFiles | None = None,
    single_file: bool = False,
) -> RunStudent:
    """Writes it, and returns the student as the run holds it (cut down where that was asked for)."""
    r = run.recipe
    tensors, state = load_checkpoint(checkpoint_of(run, which), stems=["student_average"])
    about = card.StudentInfo(
        name=r.name,
        size=r.size,
        base_name=_base_name(r.model),
        recipe_name=r.name,
        tasks=state["tasks"],
        learned_from=r.learned_from,
    )
    weights, grid, yaml = tensors["student_average"], r.student.grid, r.resolved_yaml()
    if r.student.mode == "full":
        export_student(
            *(r.model, weights, "full", grid, to, yaml),
            about=about,
            dtype=dtype or "bf16",
            files=files,
            single_file=single_file,
        )
        return RunStudent(weights, None)
    alpha = r.student.adapter.alpha
    if form == "adapter":
        export_lora(*(r.model, weights, grid, to, yaml), about=about, alpha=alpha, dtype=dtype or "fp32", files=files)
    else:
        export_student(
            *(r.model, weights, "adapter", grid, to, yaml),
            about=about,
            alpha=alpha,
            dtype=dtype or "bf16",
            files=files,
            single_file=single_file,
        )
    lora = Lora.of(weights, alpha)
    return RunStudent({}, lora if files is None or files.svd_rank is None else lora.of_rank(files.svd_rank))


def _base_name(model: str) -> str | None:
    """The hub id, where the model has one."""
    return None if model == POCKET or Path(model).is_dir() else model


def checkpoint_of(run: RunDir, which: str) -> Path:
    """A whole checkpoint by name: `last`, `best` (the last where no figure decided), or an iteration.

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
