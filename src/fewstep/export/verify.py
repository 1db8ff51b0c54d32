"""Checks that stock diffusers makes the student's pictures from what was exported.

Stock diffusers opens the export in a fresh process. Its network calls, latents and pictures are compared with those of
our own sampler: on the export, and on the student as its run holds it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.embedded import model_folder
from fewstep.backbones.families import family_of, load_backbone
from fewstep.backbones.folder import (
    folder_of,
    header_of,
    sample_sigmas,
    weight_files,
)
from fewstep.backbones.packing import packed
from fewstep.export import comfyui
from fewstep.export.card_code import run_card_code
from fewstep.export.folder import pipeline_index
from fewstep.export.lora import PLAIN_FOLDER, WEIGHT_FILE
from fewstep.export.run_student import RunStudent
from fewstep.export.single_file import single_file_of
from fewstep.export.stock_process import (
    StockCall,
    StockRequest,
    StockResult,
    dtype_name,
    probe_calls,
    run_stock_calls,
)
from fewstep.export.weights import STEM
from fewstep.flow.sigmas import SigmaGrid
from fewstep.runtime.errors import ExportError
from fewstep.runtime.task import Task
from fewstep.sample.pictures import load_student, trained_size
from fewstep.sample.sampler import pipeline_noise, sample

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}  # ours; of latents with unit variance, after all steps
PIXEL_TOLERANCE = 1e-3  # ours; of float32 pixels in [0, 1], where nothing was rounded on the way


@dataclass(frozen=True)
class Check:
    """The comparison of one call of the stock pipeline.

    Args:
        task: with the name of the LoRA file, if that is ComfyUI's.
        times: t at each network call.
        latent_error, pixel_error: the largest differences to our sampler on the export. Pixels are float32 in [0, 1].
        levels: the largest difference of pixels after rounding, of 255.
        run_error: the largest difference of pixels to the run's own student; None if it was not compared.
    """

    task: str
    times: tuple[float, ...]
    latent_error: float
    levels: int
    pixel_error: float = 0.0
    run_error: float | None = None

    def words(self) -> str:
        run = "" if self.run_error is None else f", within {self.run_error:.1e} of 1 of the run's own"
        return (
            f"{self.task}: {len(self.times)} network calls at {', '.join(f'{t:.4g}' for t in self.times)}; "
            f"latents within {self.latent_error:.1e} of our sampler's, pictures within {self.levels} of 255 levels{run}"
        )


@dataclass(frozen=True)
class Verification:
    """The comparisons of an export. exact: nothing in it is rounded, so it must make the run's own pictures."""

    folder: Path
    sigmas: tuple[float, ...]
    dtype: str
    checks: tuple[Check, ...]
    exact: bool = False
    single_file: Path | None = None  # compared with transformer/ too
    unread: Path | None = None  # a single file for which diffusers has no reader
    card: str | None = None  # what the code on the folder's card made

    def words(self) -> str:
        """One line for each call, one for the card's code, and one for ComfyUI's single file."""
        lines = [check.words() for check in self.checks]
        if self.card is not None:
            lines.append(self.card)
        if self.single_file is not None:
            lines.append(f"{self.single_file.name}: the weights of transformer/ to the last bit, as diffusers reads it")
        if self.unread is not None:
            lines.append(f"{self.unread.name}: not compared, diffusers has no reader for it")
        return "\n".join(lines)


def verify(
    folder: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    size: tuple[int, int] | None = None,
    seed: int = 0,
    timeout_seconds: float = 3600,
    run: tuple[str, RunStudent] | None = None,
) -> Verification:
    """Renders one picture, and one edit if the model edits, with a student folder in both ways.

    Args:
        size: height and width in px.
        run: the base and the student of the run that it was exported from, to compare with these too.

    Raises:
        ExportError: stock diffusers does not open the folder, calls the network at other times than `sample_sigmas`, or
            gets another result than our sampler; ComfyUI's single file holds other weights than the folder; or the code
            on the folder's card does not draw a picture.
    """
    folder = folder_of(folder)
    sigmas = sample_sigmas(folder)
    if not sigmas:
        raise ExportError(f"{folder} carries no sample_sigmas: stock diffusers would sample it as a teacher")
    size, family = size or trained_size(folder), family_of(folder)
    calls = probe_calls(_classes(folder), partial(family.student_call, len(sigmas)), size, seed, family.fixed_edit_size)
    written = single_file_of(folder)
    single = written if family.single_file_reader else None
    request = StockRequest(
        str(folder.resolve()),
        dtype_name(dtype),
        device,
        single_file=None if single is None else str(single.resolve()),
        time_reversed=family.time_reversed,
        blocks=family.blocks,
        left_out_blocks=family.left_out_blocks,
    )
    found = run_stock_calls(request, calls, timeout_seconds)
    model = load_student(folder, dtype=dtype, device=device)  # after the other process is done with its own
    grid, _ = model.sampling(size=size)
    drawn = [_drawn(model.backbone, model.backbone.transformer, grid, call) for call in calls]
    checks = list(map(_compared, calls, found, drawn))
    stored = {
        entry["dtype"] for file in weight_files(folder / "transformer", STEM) for entry in header_of(file).values()
    }
    del model  # the run's own student is another whole model
    if run is not None:
        errors = _run_errors(*run, SigmaGrid.of(sigmas), dtype, device, calls, found)
        checks = [replace(check, run_error=error) for check, error in zip(checks, errors, strict=True)]
    exact = dtype == torch.float32 and stored == {"F32"}
    unread = written if single is None else None
    report = Verification(folder, tuple(sigmas), dtype_name(dtype), tuple(checks), exact, single, unread)
    refuse_differences(report)
    return replace(report, card=run_card_code(folder, trained_size(folder), device, timeout_seconds))


def verify_lora(
    folder: str | Path,
    base: str | Path,
    run_student: RunStudent,
    grid: SigmaGrid,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    size: tuple[int, int],
    seed: int = 0,
    timeout_seconds: float = 3600,
) -> Verification:
    """Renders one picture, and one edit if the model edits: with the base and each exported LoRA, and with the run's
    own student. A LoRA with ComfyUI's keys, or with plain ones, is added to the stock class by our own reader.

    Raises:
        ExportError: as `verify`.
    """
    folder = Path(folder)
    place = model_folder(base)
    family = family_of(place)
    calls = probe_calls(_classes(place), partial(family.lora_call, list(grid)), size, seed, family.fixed_edit_size)
    asked = StockRequest(
        str(place.resolve()),
        dtype_name(dtype),
        device,
        scheduler=str(folder.resolve()),
        time_reversed=family.time_reversed,
        blocks=family.blocks,
        left_out_blocks=family.left_out_blocks,
    )
    found = {
        name: run_stock_calls(_with(asked, key, path), calls, timeout_seconds) for name, key, path in _loras(folder)
    }
    backbone = load_backbone(place, dtype=dtype, device=device)
    with run_student.on(backbone) as transformer:
        drawn = [_drawn(backbone, transformer, grid, call) for call in calls]
    checks = [
        replace(check, task=f"{check.task}{name}", run_error=check.pixel_error)
        for name, answered in found.items()
        for check in map(_compared, calls, answered, drawn)
    ]
    exact = dtype == torch.float32
    report = Verification(folder, tuple(grid), dtype_name(dtype), tuple(checks), exact)
    refuse_differences(report)
    return report


def _with(asked: StockRequest, key: str, path: Path) -> StockRequest:
    """The request with a LoRA file in this field."""
    given: dict[str, Any] = {key: str(path.resolve())}
    return replace(asked, **given)


def _loras(folder: Path) -> list[tuple[str, str, Path]]:
    """The LoRA files of an exported folder: a label, the field of StockRequest, and the path of each."""
    found = [("", "lora", folder)] if (folder / WEIGHT_FILE).is_file() else []
    for place, label in ((comfyui.FOLDER, ""), (PLAIN_FOLDER, f"{PLAIN_FOLDER}/")):
        theirs = sorted((folder / place).glob(comfyui.LORA_FILE.format(name="*")))
        found += [(f", {label}{file.name}", "comfyui_lora", file) for file in theirs]
    return found


def _classes(folder: Path) -> dict[Task, str]:
    """The stock class of each task of a pipeline folder."""
    return family_of(folder).task_pipelines(pipeline_index(folder)["_class_name"])


def _run_errors(
    base: str,
    run_student: RunStudent,
    grid: SigmaGrid,
    dtype: torch.dtype,
    device: str,
    calls: Sequence[StockCall],
    found: Sequence[StockResult],
) -> list[float]:
    backbone = load_backbone(base, dtype=dtype, device=device)
    with run_student.on(backbone) as transformer:
        return [
            float((_drawn(backbone, transformer, grid, call)[1] - answer.pixels).abs().max())
            for call, answer in zip(calls, found, strict=True)
        ]


def _compared(call: StockCall, answer: StockResult, drawn: tuple[Tensor, Tensor]) -> Check:
    """Compares a call of the stock pipeline with the latents and pixels of our sampler."""
    latents, pixels = drawn
    theirs = answer.latents if answer.latents.dim() == 3 else packed(answer.latents, _patch(answer.latents, latents))
    levels = (255 * pixels).round() - (255 * answer.pixels).round()
    return Check(
        task="t2i" if call.image is None else "edit",
        times=answer.times,
        latent_error=float((latents - theirs).abs().max()),
        levels=int(levels.abs().max()),
        pixel_error=float((pixels - answer.pixels).abs().max()),
    )


def _patch(latents_BCHW: Tensor, tokens_BND: Tensor) -> int:
    """The side of the patch that makes these latents these tokens. Some stock classes keep latents unpacked."""
    return math.isqrt(latents_BCHW[0, 0].numel() // tokens_BND.shape[1])


@torch.no_grad()
def _drawn(backbone: Backbone, transformer: nn.Module, grid: SigmaGrid, call: StockCall) -> tuple[Tensor, Tensor]:
    """Our sampler's last latents (1, N, D) and pixels (H, W, channels)."""
    references = None if call.image is None else [call.image]
    (cond,) = backbone.encode([call.prompt], references, call.size)
    noise_BND = pipeline_noise(backbone, cond, [call.seed])
    x0_BND = sample(backbone, transformer, cond, noise_BND, grid)
    return x0_BND.float().cpu(), backbone.pixels(x0_BND, cond.layout.target)[0].float().cpu()


def refuse_differences(report: Verification) -> None:
    """Refuses an export that is not sampled as the student was trained.

    Raises:
        ExportError: stock diffusers samples on another grid than that of the folder, or gets another result.
    """
    dtype = getattr(torch, report.dtype)
    for check in report.checks:
        expected = torch.tensor(report.sigmas, dtype=dtype).double()
        found = torch.tensor(check.times, dtype=torch.float64)
        rounding = 2 * torch.finfo(dtype).eps
        if len(found) != len(expected) or (found - expected).abs().max() > rounding:
            raise ExportError(
                f"{report.folder}: stock diffusers calls the network at {list(check.times)} ({check.task}), not at the "
                f"student's {list(report.sigmas)}. Its scheduler must be the one that the export wrote"
            )
        if not check.latent_error <= TOLERANCE[dtype]:
            raise ExportError(
                f"{report.folder}: stock diffusers' latents differ from our sampler's by {check.latent_error:.2g} "
                f"({check.task}); {TOLERANCE[dtype]} is allowed in {report.dtype}"
            )
        if report.exact and not max(check.pixel_error, check.run_error or 0.0) <= PIXEL_TOLERANCE:
            raise ExportError(
                f"{report.folder}: stock diffusers' picture differs from the run's own by "
                f"{max(check.pixel_error, check.run_error or 0.0):.2g} of 1 ({check.task}); {PIXEL_TOLERANCE} is "
                "allowed where nothing is rounded. It was exported from another checkpoint, or its files were changed"
            )
