"""Runs stock diffusers in a fresh Python process, without network, for a few pictures, as a user's own process would.

The program that runs there is `backbones/stock_run.py`; its docstring describes requests and answers.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from fewstep.runtime.errors import ExportError
from fewstep.runtime.task import Task

PROMPT, INSTRUCTION = "A small house by the sea at sunset.", "Make it night."
_PROGRAM = "fewstep.backbones.stock_run"


@dataclass(frozen=True)
class StockRequest:
    """A folder to open, and what is loaded into its pipeline. Without the latter the folder is called as it is.

    Args:
        lora: a folder with a LoRA file.
        comfyui_lora: a LoRA file with ComfyUI's keys, or with plain ones.
        scheduler: a folder with a scheduler/ in it.
        single_file: ComfyUI's file of the transformer, which must hold the same weights.
        blocks, left_out_blocks: those of a modular pipeline (`PipelineCall`).
        time_reversed: the stock transformer is told 1 - t.
    """

    folder: str
    dtype: str
    device: str
    lora: str | None = None
    scheduler: str | None = None
    comfyui_lora: str | None = None
    single_file: str | None = None
    time_reversed: bool = False
    blocks: str | None = None
    left_out_blocks: tuple[str, ...] = ()


@dataclass(frozen=True)
class StockCall:
    """The call for one picture.

    Args:
        pipeline: the stock class to call.
        image: the picture to edit; None for text to image.
        size: height and width in px of what it draws.
        options: the arguments of the call beside prompt and picture.
    """

    pipeline: str
    prompt: str
    seed: int
    size: tuple[int, int]
    options: Mapping[str, Any]
    image: Image.Image | None = None


@dataclass(frozen=True)
class StockResult:
    """The result of one call. times: t at each network call. latents: (1, N, D). pixels: (H, W, channels), float32 in
    [0, 1]."""

    times: tuple[float, ...]
    latents: Tensor
    pixels: Tensor = field(repr=False)


def probe_calls(
    classes: Mapping[Task, str],
    options: Callable[[tuple[int, int], Task], Mapping[str, Any]],
    size: tuple[int, int],
    seed: int,
    fixed_edit_size: Callable[[tuple[int, int]], tuple[int, int] | None] = lambda size: None,
) -> list[StockCall]:
    """Calls for one picture, and for one edit of a colour ramp if the model edits.

    Args:
        classes: the stock class of each task.
        options: the arguments of a call of this size and task.
        size: height and width in px.
        fixed_edit_size: that of an edit of a picture of this size, where the class has one of its own.
    """
    found = []
    for task, pipeline in classes.items():
        fixed = fixed_edit_size(size) if task == "edit" else None
        stated = {} if fixed else {"height": size[0], "width": size[1]}
        prompt, image = (INSTRUCTION, _ramp(size)) if task == "edit" else (PROMPT, None)
        found.append(StockCall(pipeline, prompt, seed, fixed or size, {**stated, **options(size, task)}, image))
    return found


def _ramp(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.linspace(0, 255, size[0] * size[1] * 3).reshape(*size, 3).astype(np.uint8))


def run_stock_calls(request: StockRequest, calls: Sequence[StockCall], timeout_seconds: float) -> list[StockResult]:
    """Runs the calls in a fresh process.

    Raises:
        ExportError: the process failed, or took too long.
    """
    with tempfile.TemporaryDirectory() as work:
        asked, answered = Path(work) / "request.json", Path(work) / "answer.safetensors"
        asked.write_text(json.dumps(asdict(request) | {"calls": _calls_json(calls, Path(work))}))
        _run([sys.executable, "-m", _PROGRAM, str(asked), str(answered)], request, timeout_seconds)
        found = load_file(answered)
    return [
        StockResult(tuple(found[f"{i}.times"].tolist()), found[f"{i}.latents"], found[f"{i}.pixels"])
        for i in range(len(calls))
    ]


def _calls_json(calls: Sequence[StockCall], work: Path) -> list[dict[str, Any]]:
    described = []
    for i, call in enumerate(calls):
        one: dict[str, Any] = {"class": call.pipeline, "prompt": call.prompt, "seed": call.seed}
        one["options"] = dict(call.options)
        if call.image is not None:
            one["image"] = str(work / f"{i}.png")
            call.image.save(one["image"])
        described.append(one)
    return described


def _run(command: Sequence[str], request: StockRequest, timeout_seconds: float) -> None:
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    what = request.lora or request.comfyui_lora or request.folder
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout_seconds)
    except subprocess.TimeoutExpired as error:
        raise ExportError(f"stock diffusers did not finish with {what} in {timeout_seconds:.0f} s") from error
    refuse_killed(done.returncode, what, bytes_a_weight=4 if request.dtype == "float32" else 2)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise ExportError(f"stock diffusers cannot run {what}: {last[0]}. Export the student again")


def refuse_killed(returncode: int, what: str, bytes_a_weight: int) -> None:
    """
    Raises:
        ExportError: a signal ended the process that ran stock diffusers with `what`.
    """
    if returncode < 0:
        ended = signal.Signals(-returncode).name
        raise ExportError(
            f"stock diffusers was ended by {ended} with {what}. The system does that where memory ends, and a "
            f"weight takes {bytes_a_weight} bytes here: verify on a larger machine"
        )


def dtype_name(dtype: torch.dtype) -> str:
    """The name of a dtype in torch, such as float32."""
    return str(dtype).removeprefix("torch.")
