"""A user's own process: stock diffusers in a fresh Python, without network, asked for a few pictures.

What is asked and answered is told in `backbones/stock_run.py`, the program that runs there.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
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
    """A folder to open, and what is put onto it. lora: a folder with a LoRA file; comfyui_lora: a file in ComfyUI's
    keys; scheduler: the folder above scheduler/. Without them the folder is called as it is. single_file: ComfyUI's,
    which must hold the same weights."""

    folder: str
    dtype: str
    device: str
    lora: str | None = None
    scheduler: str | None = None
    comfyui_lora: str | None = None
    single_file: str | None = None


@dataclass(frozen=True)
class StockCall:
    """One picture. pipeline: the stock class that answers; `image` makes it an edit. size: height and width in px.
    options: what the call is told beside prompt, picture and size."""

    pipeline: str
    prompt: str
    seed: int
    size: tuple[int, int]
    options: Mapping[str, Any]
    image: Image.Image | None = None


@dataclass(frozen=True)
class StockResult:
    """times: t at each network call; latents (1, N, D); pixels (H, W, channels), float32 in [0, 1]."""

    times: tuple[float, ...]
    latents: Tensor
    pixels: Tensor = field(repr=False)


def probe_calls(
    classes: Mapping[Task, str], options: Mapping[str, Any], size: tuple[int, int], seed: int
) -> list[StockCall]:
    """A picture, and an edit of a colour ramp where the model edits. classes: the stock class of each task."""
    ramp = np.linspace(0, 255, size[0] * size[1] * 3).reshape(*size, 3).astype(np.uint8)
    asked: dict[Task, tuple[str, Image.Image | None]] = {
        "t2i": (PROMPT, None),
        "edit": (INSTRUCTION, Image.fromarray(ramp)),
    }
    return [
        StockCall(pipeline, prompt, seed, size, options, image)
        for task, pipeline in classes.items()
        for prompt, image in [asked[task]]
    ]


def run_stock_calls(request: StockRequest, calls: Sequence[StockCall], timeout_seconds: float) -> list[StockResult]:
    """
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
        height, width = call.size
        one: dict[str, Any] = {"class": call.pipeline, "prompt": call.prompt, "seed": call.seed}
        one["options"] = {"height": height, "width": width, **call.options}
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
    if done.returncode < 0:
        ended, size = signal.Signals(-done.returncode).name, 4 if request.dtype == "float32" else 2
        raise ExportError(
            f"stock diffusers was ended by {ended} with {what}. The system does that where memory ends, and a "
            f"weight takes {size} bytes here: verify on a larger machine"
        )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise ExportError(f"stock diffusers cannot run {what}: {last[0]}. Export the student again")


def dtype_name(dtype: torch.dtype) -> str:
    """As torch calls it: float32."""
    return str(dtype).removeprefix("torch.")
