"""`fewstep generate`: a model's answers to a suite, as a gallery."""

from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fewstep.backbones.families import POCKET
from fewstep.bench.gallery import refuse_other_suite
from fewstep.bench.suites import open_suite
from fewstep.demo import teacher_guidance
from fewstep.device import PRECISIONS, chosen_device
from fewstep.errors import EnvironmentRefused
from fewstep.sample.generate import Painter, generate
from fewstep.sample.pictures import open_model
from fewstep.share import Share


def fill(
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
    """Draws what is missing, and says where; whether the command ends well: every picture drawn, or one of several
    processes.

    Raises:
        SuiteError, ModelError, RecipeError, LayoutError: before anything is written.
        GalleryError: another model's or suite's gallery, or failures in a row.
    """
    share = Share.of_environment()
    opened = open_suite(suite)
    refuse_other_suite(to, opened.identity)
    where = _device(device, dtype)
    chosen = PRECISIONS[dtype] if dtype else torch.bfloat16 if where.type == "cuda" else torch.float32
    model = open_model(source, dtype=chosen, device=where)
    own = teacher_guidance()[opened.task] if source == POCKET else model.guidance
    own = own if guidance is None else replace(own, scale=guidance)
    painter = Painter(model, opened, steps, own, batch)
    questions = opened.questions[:limit]
    total = len(range(share.rank, len(questions) * opened.seeds, share.world))
    failed = 0
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    ) as progress:
        bar = progress.add_task(f"drawing {opened.name} into {to}", total=total)

        def told(drawn: int, not_drawn: int) -> None:
            nonlocal failed
            failed += not_drawn
            progress.advance(bar, drawn + not_drawn)

        generate(painter, to, system or source, share, limit, told)
    console.print(f"{total - failed:,} pictures in [bold]{to}[/], {failed:,} failed", highlight=False, soft_wrap=True)
    if failed:
        console.print("Its manifest says why each failed; the same command tries them again.", soft_wrap=True)
    return not failed or share.world > 1  # torchrun would end the other processes with this one


def _device(name: str, dtype: str | None) -> torch.device:
    """The device as asked for.

    Raises:
        EnvironmentRefused: not to be had here, or a dtype of another name.
    """
    if dtype is not None and dtype not in PRECISIONS:
        raise EnvironmentRefused(f"--dtype is {' or '.join(PRECISIONS)}, not '{dtype}'")
    return chosen_device(name, dtype or "fp32")
