"""`fewstep.export_run`: what is shipped of a run, checked before and after it is written."""

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from fewstep.export.card import WeightsKind
from fewstep.export.folder import ExportOptions
from fewstep.export.lora import LoraFiles
from fewstep.export.run_student import RunStudent
from fewstep.export.verify import (
    Verification,
    verify,
    verify_lora,
)
from fewstep.lora.truncation import TruncatedFactors
from fewstep.run.folder import RunDir
from fewstep.run.recipe import Recipe
from fewstep.run.student import export_from_run
from fewstep.runtime.errors import ExportError
from fewstep.runtime.reporter import SILENT, Reporter

FORMS = ("merged", "adapter")
WEIGHTS = get_args(WeightsKind)


@dataclass(frozen=True)
class ExportedStudent:
    """What was written. cut: what a lower rank left out of the LoRA; None where nothing was cut. verification: what
    stock diffusers drew with it, in a fresh process; None where that was not asked for."""

    folder: Path
    form: str
    cut: TruncatedFactors | None
    verification: Verification | None


def export_run(
    run: str | Path,
    to: str | Path,
    *,
    checkpoint: str | int = "best",
    form: str = "merged",
    dtype: str | None = None,
    lora: str | None = None,
    svd_rank: int | None = None,
    single_file: bool = False,
    verify: bool = False,
    weights: str = "average",
    reporter: Reporter = SILENT,
) -> ExportedStudent:
    """The student of a run's checkpoint in one of two forms.

    Args:
        run: the run folder.
        to: the folder to write; it must not exist or be empty.
        checkpoint: `best` (the last where no figure decided), `last`, or any iteration that was saved.
        form: `merged`: a whole pipeline folder; `adapter`: the LoRA alone, run on the base.
        dtype: `bf16` or `fp32`, of the weights; a merged student is bf16 and a LoRA fp32 if not given.
        lora: whose keys the LoRA has: `diffusers` (if not given), `comfyui`, `both` or `plain`.
        svd_rank: the rank that the LoRA is cut down to.
        single_file: the whole transformer once more, as ComfyUI's one file.
        verify: stock diffusers opens it in a fresh process, and its pictures are held against the run's own.
        weights: `average`: the moving average of the student, kept of every save; `raw`: the student itself, of whole
            checkpoints.

    Raises:
        RunError: no run, or no such checkpoint. ExportError, AdapterError: before anything is written; or, with
            `verify`, what was written does not pass.
    """
    opened, place = RunDir.open(Path(run)), Path(to)
    files = LoraFiles.from_options(lora, svd_rank)
    if form not in FORMS:
        raise ExportError(f"--form is {' or '.join(FORMS)}, not '{form}'")
    if form == "adapter" and opened.recipe.student.mode == "full":
        raise ExportError(f"{run} trained all weights (student.mode full), so it has no adapter; leave --form out")
    if form == "adapter" and single_file:
        raise ExportError("--single-file is the whole model, and --form adapter writes none; leave one of them out")
    if weights not in WEIGHTS:
        raise ExportError(f"--weights is {' or '.join(WEIGHTS)}, not '{weights}'")
    options = ExportOptions(dtype, files, single_file)
    kind: WeightsKind = "raw" if weights == "raw" else "average"
    run_student = export_from_run(opened, place, str(checkpoint), form, options, reporter, kind)
    cut = None if run_student.lora is None else run_student.lora.cut
    reporter.say(f"{'LoRA' if form == 'adapter' else 'student'} {place}", "result")
    if cut is not None:
        reporter.say(f"rank {cut.words()}")
    found = _verified(place, opened.recipe, run_student, form, reporter) if verify else None
    return ExportedStudent(place, form, cut, found)


def _verified(to: Path, recipe: Recipe, run_student: RunStudent, form: str, reporter: Reporter) -> Verification:
    with reporter.waiting("verifying with stock diffusers in a fresh process"):
        if form == "adapter":
            found = verify_lora(to, recipe.model, run_student, recipe.student.grid, size=recipe.size)
        else:
            found = verify(to, size=recipe.size, run=(recipe.model, run_student))
    reporter.say(found.words())
    return found
