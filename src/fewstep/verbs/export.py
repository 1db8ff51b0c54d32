"""`fewstep export`: from a run folder to what is shipped."""

from pathlib import Path

from rich.console import Console

from fewstep.backbones.families import POCKET
from fewstep.errors import ExportError, RunError
from fewstep.export import card
from fewstep.export.folder import export_lora, export_student
from fewstep.export.held import Held
from fewstep.export.lora import Lora, LoraFiles
from fewstep.export.verify import Verification, verify, verify_lora
from fewstep.recipe import Recipe
from fewstep.rundir import RunDir
from fewstep.train.checkpoint import Checkpoints, load, torn

FORMS = ("merged", "adapter")


def export_run(
    run: Path,
    to: Path,
    *,
    checkpoint: str,
    form: str = "merged",
    dtype: str | None = None,
    lora: str | None = None,
    svd_rank: int | None = None,
    check: bool,
    console: Console | None = None,
) -> None:
    """The student of a run's checkpoint (`best`, `last`, or an iteration's number) in one of two forms. merged: a whole
    pipeline folder, in bf16 unless another dtype is asked for; adapter: the LoRA alone, in fp32 unless.

    Raises:
        FewstepError: before anything is written; or, with `check`, what was written does not pass.
    """
    console = console or Console()
    opened = RunDir.open(run)
    files = LoraFiles.named(lora, svd_rank)
    if form not in FORMS:
        raise ExportError(f"--form is {' or '.join(FORMS)}, not '{form}'")
    if form == "adapter" and opened.recipe.student.mode == "full":
        raise ExportError(f"{run} trained all weights (student.mode full), so it has no adapter; leave --form out")
    if check and form == "adapter" and files is not None and "diffusers" not in files.programs:
        raise ExportError("--verify opens the LoRA with stock diffusers; write that one too: --lora both")
    held = write_student(opened, to, checkpoint, form, dtype, files)
    console.print(f"{'LoRA' if form == 'adapter' else 'student'} [bold]{to}[/]", highlight=False, soft_wrap=True)
    if held.lora is not None and held.lora.cut is not None:
        console.print(f"rank {held.lora.cut.words()}", highlight=False, soft_wrap=True)
    if check:
        with console.status("verifying with stock diffusers in a fresh process"):
            found = _verified(to, opened.recipe, held, form)
        console.print(found.words(), highlight=False, soft_wrap=True)


def write_student(
    run: RunDir,
    to: Path,
    which: str,
    form: str = "merged",
    dtype: str | None = None,
    files: LoraFiles | None = None,
) -> Held:
    """Writes it, and returns the student as the run holds it (cut down where that was asked for)."""
    r = run.recipe
    tensors, state = load(checkpoint_of(run, which))
    about = card.About(
        name=r.name,
        size=r.size,
        base_name=_base_name(r.model),
        recipe_name=r.name,
        tasks=state["tasks"],
    )
    weights, grid, yaml = tensors["student_average"], r.student.grid, r.resolved_yaml()
    if r.student.mode == "full":
        export_student(*(r.model, weights, "full", grid, to, yaml), about=about, dtype=dtype or "bf16", files=files)
        return Held(weights, None)
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
        )
    lora = Lora.of(weights, alpha)
    return Held({}, lora if files is None or files.svd_rank is None else lora.of_rank(files.svd_rank))


def _verified(to: Path, recipe: Recipe, held: Held, form: str) -> Verification:
    if form == "adapter":
        return verify_lora(to, recipe.model, held, recipe.student.grid, size=recipe.size)
    return verify(to, size=recipe.size, run=(recipe.model, held))


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
        best = load(last)[1]["best"]
        return last if best is None else run.checkpoints / f"iteration-{best['iteration']:06d}"
    if not which.isdecimal():
        raise RunError(f"--checkpoint is best, last or an iteration's number, not '{which}'")
    place = run.checkpoints / f"iteration-{int(which):06d}"
    if torn(place) is not None:
        kept = ", ".join(sorted(p.name.removeprefix("iteration-").lstrip("0") for p in run.checkpoints.glob("iter*")))
        raise RunError(f"{run.folder} keeps no checkpoint of iteration {which}; it has: {kept}")
    return place
