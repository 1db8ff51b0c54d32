"""Does a stranger get the student's pictures? The folder is opened by stock diffusers in a fresh process and called
with nothing but prompt, size and seed; its network calls and its latents are held against our own sampler's."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from fewstep.backbones.families import family_of
from fewstep.backbones.folder import folder_of, read_json, sample_sigmas
from fewstep.conditioning import Task
from fewstep.errors import ExportError
from fewstep.sample.pictures import Model, load_student
from fewstep.sample.sampler import sample, seeded_noise

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}  # ours; of latents with unit variance, after all steps
PROMPT, INSTRUCTION = "A small house by the sea at sunset.", "Make it night."
_PROGRAM = "fewstep.backbones.stock_run"


@dataclass(frozen=True)
class Check:
    """One call of the stock pipeline. times: t at each network call. latent_error: largest difference to our sampler's
    latents. levels: largest difference of a picture's value, of 255."""

    task: str
    times: tuple[float, ...]
    latent_error: float
    levels: int


@dataclass(frozen=True)
class Verification:
    folder: Path
    sigmas: tuple[float, ...]
    dtype: str
    checks: tuple[Check, ...]

    def words(self) -> str:
        """One line for each call."""
        lines = [
            f"{c.task}: {len(c.times)} network calls at {', '.join(f'{t:.4g}' for t in c.times)}; "
            f"latents within {c.latent_error:.1e} of our sampler's, pictures within {c.levels} of 255 levels"
            for c in self.checks
        ]
        return "\n".join(lines)


def verify(
    folder: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    size: tuple[int, int] | None = None,
    seed: int = 0,
    timeout_seconds: float = 3600,
) -> Verification:
    """Draws one picture, and one edit where the model edits, in both ways.

    Raises:
        ExportError: stock diffusers does not open the folder, calls the network at other times than `sample_sigmas`, or
            arrives elsewhere than our sampler.
    """
    folder = folder_of(folder)
    sigmas = sample_sigmas(folder)
    if not sigmas:
        raise ExportError(f"{folder} carries no sample_sigmas: stock diffusers would sample it as a teacher")
    model = load_student(folder, dtype=dtype, device=device)
    size = size or model.size
    with tempfile.TemporaryDirectory() as work:
        calls = _calls(folder, len(sigmas), size, seed, Path(work))
        answer = _stock(folder, calls, dtype, device, Path(work), timeout_seconds)
        checks = tuple(_held(model, call, i, answer, size) for i, call in enumerate(calls))
    report = Verification(folder, tuple(sigmas), str(dtype).removeprefix("torch."), checks)
    refuse_differences(report)
    return report


def _calls(folder: Path, steps: int, size: tuple[int, int], seed: int, work: Path) -> list[dict[str, Any]]:
    """One for each task, with nothing said that the model card does not say."""
    family = family_of(folder)
    options = {"height": size[0], "width": size[1]} | family.student_call(steps, size)
    classes = family.classes_of(read_json(folder / "model_index.json")["_class_name"])
    source = work / "source.png"
    ramp = np.linspace(0, 255, size[0] * size[1] * 3).reshape(*size, 3).astype(np.uint8)
    Image.fromarray(ramp).save(source)
    asked: dict[Task, dict[str, Any]] = {
        "t2i": {"prompt": PROMPT},
        "edit": {"prompt": INSTRUCTION, "image": str(source)},
    }
    return [asked[task] | {"class": name, "seed": seed, "options": options} for task, name in classes.items()]


def _stock(
    folder: Path, calls: list[dict[str, Any]], dtype: torch.dtype, device: str, work: Path, timeout_seconds: float
) -> dict[str, Tensor]:
    """What the stock pipeline answers, in a process of its own and without network."""
    asked = {
        "folder": str(folder.resolve()),
        "dtype": str(dtype).removeprefix("torch."),
        "device": device,
        "calls": calls,
    }
    (work / "request.json").write_text(json.dumps(asked))
    command = [sys.executable, "-m", _PROGRAM, str(work / "request.json"), str(work / "answer.safetensors")]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout_seconds)
    except subprocess.TimeoutExpired as error:
        raise ExportError(f"stock diffusers did not finish with {folder} in {timeout_seconds:.0f} s") from error
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise ExportError(f"stock diffusers cannot run {folder}: {last[0]}. Export the student again")
    return load_file(work / "answer.safetensors")


def _held(model: Model, call: dict[str, Any], i: int, answer: dict[str, Tensor], size: tuple[int, int]) -> Check:
    """Call i of the stock pipeline against our sampler."""
    references = [Image.open(call["image"])] if "image" in call else None
    backbone = model.backbone
    cond = backbone.encode([call["prompt"]], references, size)[0]
    grid, guidance = model.sampling(size=size)
    target = cond.layout.target
    noise_BND = seeded_noise(
        [call["seed"]], target, backbone.latent_channels, cond.text_BLC.dtype, backbone.noise_patch
    )
    x0_BND = sample(backbone, backbone.transformer, cond, noise_BND.to(backbone.device), grid, guidance)
    ours = torch.from_numpy(np.array(backbone.decode(x0_BND, target)[0])).int()
    return Check(
        task=cond.layout.task,
        times=tuple(answer[f"{i}.times"].tolist()),
        latent_error=float((x0_BND.float().cpu() - answer[f"{i}.latents"]).abs().max()),
        levels=int((ours - answer[f"{i}.picture"].int()).abs().max()),
    )


def refuse_differences(report: Verification) -> None:
    """Raises ExportError where stock diffusers walks another grid than the folder says, or ends elsewhere."""
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
