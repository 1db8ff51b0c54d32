"""`fewstep generate`: a model's answers to a suite, as a gallery."""

from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fewstep.backbones.families import POCKET
from fewstep.bench.gallery import refuse_other_suite
from fewstep.bench.suites import open_suite
from fewstep.cli.verbs.demo import teacher_guidance
from fewstep.runtime.device import PRECISIONS, resolve_device
from fewstep.runtime.errors import EnvironmentRefused
from fewstep.runtime.rank_slice import RankSlice
from fewstep.sample.generate import GalleryRenderer, fill_gallery
from fewstep.sample.pictures import open_model


def generate_for_suite(
    source: str,
    suite: str,
    to: Path,
    *,
    steps: int | None,
    guidance: float | None,
    device: str,
    dtype: str | None,
    batch: int,
    limit: int | None,
    system: str | None,
    console: Console,
) -> bool:
    """Draws the missing pictures and prints where they are. Returns whether the command succeeds: every picture was
    drawn, or this is one of several processes.

    Raises:
        SuiteError, ModelError, RecipeError, LayoutError: before anything is written.
        GalleryError: another model's or suite's gallery, or failures in a row.
    """
    rank_slice = RankSlice.from_environment()
    opened = open_suite(suite)
    refuse_other_suite(to, opened.identity)
    where = _device(device, dtype)
    chosen = PRECISIONS[dtype] if dtype else torch.bfloat16 if where.type == "cuda" else torch.float32
    model = open_model(source, dtype=chosen, device=where)
    own = teacher_guidance()[opened.task] if source == POCKET else model.guidance
    own = own if guidance is None else replace(own, scale=guidance)
    renderer = GalleryRenderer(model, opened, steps, own, batch)
    questions = opened.questions[:limit]
    total = len(range(rank_slice.rank, len(questions) * opened.seeds, rank_slice.world))
    failed = 0
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    ) as progress:
        bar = progress.add_task(f"drawing {opened.name} into {to}", total=total)

        def on_progress(drawn: int, not_drawn: int) -> None:
            nonlocal failed
            failed += not_drawn
            progress.advance(bar, drawn + not_drawn)

        fill_gallery(renderer, to, system or source, rank_slice, limit, on_progress)
    console.print(f"{total - failed:,} pictures in [bold]{to}[/], {failed:,} failed", highlight=False, soft_wrap=True)
    if failed:
        console.print("Its manifest says why each failed; the same command tries them again.", soft_wrap=True)
    return not failed or rank_slice.world > 1  # torchrun would end the other processes with this one


def _device(name: str, dtype: str | None) -> torch.device:
    """The requested device.

    Raises:
        EnvironmentRefused: it is not available here, or the dtype is unknown.
    """
    if dtype is not None and dtype not in PRECISIONS:
        raise EnvironmentRefused(f"--dtype is {' or '.join(PRECISIONS)}, not '{dtype}'")
    return resolve_device(name, dtype or "fp32")
