"""`fewstep export`: from a run folder to a student that can be shipped."""

from pathlib import Path

from rich.console import Console

from fewstep.export.folder import ExportOptions
from fewstep.export.lora import LoraFiles
from fewstep.export.run_student import RunStudent
from fewstep.export.verify import (
    Verification,
    verify,
    verify_lora,
)
from fewstep.run.folder import RunDir
from fewstep.run.recipe import Recipe
from fewstep.run.student import export_from_run
from fewstep.runtime.errors import ExportError

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
    single_file: bool = False,
    check: bool,
    console: Console | None = None,
) -> None:
    """Writes the student of a run's checkpoint (`best`, `last`, or an iteration's number) in one of two forms. merged:
    a whole pipeline folder, in bf16 unless another dtype is asked for. adapter: the LoRA alone, in fp32 unless another
    is.

    Raises:
        FewstepError: before anything is written; or, with `check`, if the written files do not pass.
    """
    console = console or Console()
    opened = RunDir.open(run)
    files = LoraFiles.from_options(lora, svd_rank)
    if form not in FORMS:
        raise ExportError(f"--form is {' or '.join(FORMS)}, not '{form}'")
    if form == "adapter" and opened.recipe.student.mode == "full":
        raise ExportError(f"{run} trained all weights (student.mode full), so it has no adapter; leave --form out")
    if form == "adapter" and single_file:
        raise ExportError("--single-file is the whole model, and --form adapter writes none; leave one of them out")
    options = ExportOptions(dtype, files, single_file)
    run_student = export_from_run(opened, to, checkpoint, form, options)
    console.print(f"{'LoRA' if form == 'adapter' else 'student'} [bold]{to}[/]", highlight=False, soft_wrap=True)
    if run_student.lora is not None and run_student.lora.cut is not None:
        console.print(f"rank {run_student.lora.cut.words()}", highlight=False, soft_wrap=True)
    if check:
        with console.status("verifying with stock diffusers in a fresh process"):
            found = _verified(to, opened.recipe, run_student, form)
        console.print(found.words(), highlight=False, soft_wrap=True)


def _verified(to: Path, recipe: Recipe, run_student: RunStudent, form: str) -> Verification:
    if form == "adapter":
        return verify_lora(to, recipe.model, run_student, recipe.student.grid, size=recipe.size)
    return verify(to, size=recipe.size, run=(recipe.model, run_student))
