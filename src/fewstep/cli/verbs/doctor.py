"""What `fewstep doctor` prints: the machine, and whether a model can be used on it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fewstep.backbones.conditioning import stack
from fewstep.backbones.embedded import POCKET_GUIDANCE, is_embedded, model_folder
from fewstep.backbones.families import MODEL_FAMILIES, family_of, load_backbone, model_shapes
from fewstep.backbones.finite import refuse_not_finite, refuse_weights_not_finite
from fewstep.backbones.folder import (
    read_json,
    sample_sigmas,
)
from fewstep.backbones.licences import inherited_licence
from fewstep.export.leftovers import leftovers
from fewstep.flow.rng import NamedRNG
from fewstep.run import folder
from fewstep.run.attention_kernels import kernels_of_model
from fewstep.runtime import torchvision_pair
from fewstep.runtime.cpu_bfloat16 import bf16_against_fp32
from fewstep.runtime.errors import ModelError, PictureError

NORMS = {False: "", True: ", kept norm", "at-most": ", norm at most", "picture-at-most": ", picture's norm at most"}
HEADROOM = 1.2  # ours: times the weights, to allow for the other memory of a call


def diagnose(model: str | None, console: Console) -> None:
    """Prints facts about the machine. For a model also: whether its folder is complete, its family, licence and
    sampler, and the result of one network call.

    Raises:
        ModelError: what is wrong with the model, and how to fix it.
    """
    table = Table(show_header=False, title="this machine")
    facts = folder.environment()
    for name, version in facts["versions"].items():
        table.add_row(name, version)
    table.add_row("python", facts["python"])
    table.add_row("processors", f"{facts['processors']} ({torch.get_num_threads()} threads for torch)")
    table.add_row("bfloat16 on the CPU", f"products take {bf16_against_fp32():.2g} times as long as in fp32")
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        table.add_row(f"cuda:{index}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    if not torch.cuda.is_available():
        table.add_row("cuda", "none")
    console.print(table)
    if fault := torchvision_pair.pair_fault():
        console.print(f"[bold]torch and torchvision are[/] {escape(fault)}", highlight=False, soft_wrap=True)
    if model is not None:
        _model(model, console)


def _model(source: str, console: Console) -> None:
    """First the facts from the files, which cost nothing; then one network call."""
    folder = model_folder(source)
    family = family_of(folder)
    index = family.inspect(folder)
    table = Table(show_header=False, title=source)
    table.add_row("folder", f"{folder}: complete")
    table.add_row(
        "family", f"{family.family} ({index['_class_name']}; known: {', '.join(sorted(MODEL_FAMILIES.names()))})"
    )
    table.add_row("tasks", ", ".join(family.task_pipelines(index["_class_name"])))
    makers = family.makers_licence(read_json(folder / "transformer" / "config.json"))
    table.add_row("licence", inherited_licence(folder, makers).words)
    shapes = model_shapes(folder).shapes.values()
    table.add_row("transformer", f"{sum(math.prod(shape) for shape in shapes) / 1e6:,.1f} M parameters")
    if taken := family.distilled(folder):
        table.add_row("as a teacher", f"this {taken}")
    guidance, steps = family.default_sampling(index)
    sigmas = sample_sigmas(folder)
    table.add_row("sampler", f"student at {list(sigmas)}" if sigmas else f"teacher, {steps} steps by default")
    table.add_row("scheduler", _scheduler(read_json(folder / "scheduler" / "scheduler_config.json")))
    words = f"{guidance.scale:g}" + NORMS[guidance.keep_norm]
    if is_embedded(source):
        words = ", ".join(f"{own.scale:g} ({task})" for task, own in POCKET_GUIDANCE.items())
    table.add_row("guidance", "none: a student" if sigmas else words)
    for device in _devices():
        uses = kernels_of_model(source, device, "bf16")
        table.add_row(f"attention on {device}", "\n".join(escape(use.details()) for use in uses))
    words, fault = _called(source, folder)
    table.add_row("one network call", words)
    console.print(table)
    for left in leftovers(folder.absolute().parent):
        console.print(f"{left.words()}: delete it to free its space", highlight=False, soft_wrap=True)
    if fault is not None:
        raise fault


def _devices() -> list[torch.device]:
    return [torch.device("cpu"), *(torch.device("cuda", index) for index in range(torch.cuda.device_count()))]


def _scheduler(config: Mapping[str, Any]) -> str:
    dynamic = config.get("use_dynamic_shifting", False)
    words = "shift by size" if dynamic else f"shift {config.get('shift', 1.0):g}"
    terminal = config.get("shift_terminal")
    return words + (f", ends at {terminal:g}" if terminal else "")


def _called(source: str, folder: Path) -> tuple[str, ModelError | None]:
    """The result of one velocity at the smallest sensible size, and of decoding it, in words; and what is wrong with
    the model, if anything is. It is not computed if the weights would not fit."""
    needed = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))  # bf16 weights, as they are stored
    free = available_memory()
    if free is not None and needed * HEADROOM > free:
        return f"not made: {needed / 2**30:.0f} GiB of weights, {free / 2**30:.0f} GiB of memory are free here", None
    try:
        return f"answers, rms velocity {_rms_velocity(source):.2f}", None
    except PictureError as error:
        return "gives numbers that are not finite", ModelError(f"{source}: {error}")
    except ModelError as error:
        return "not made", error
    except Exception as error:  # whatever a library raises: what a run would end with later
        return "fails", ModelError(f"{source} loads, but one network call fails: {type(error).__name__}: {error}")


def _rms_velocity(source: str) -> float:
    """
    Raises:
        ModelError: weights that are not finite. PictureError: finite ones whose velocity or picture is not.
    """
    backbone = load_backbone(source, dtype=torch.bfloat16)
    side = backbone.size_multiple * 2
    with torch.no_grad():
        cond = stack(backbone.encode(["a red house"], None, (side, side)))
        z_BND = NamedRNG(0).normal((1, *backbone.noise_shape(cond.layout)), "doctor").to(cond.text_BLC.dtype)
        v_BND = backbone.velocity(backbone.transformer, z_BND, torch.ones(1), cond)
        try:
            refuse_not_finite(v_BND, "velocities")
            backbone.decode(z_BND - v_BND, cond.layout.target)
        except PictureError:
            refuse_weights_not_finite(backbone.modules())
            raise
    return v_BND.float().square().mean().sqrt().item()


def available_memory() -> int | None:
    """Bytes that this machine can allocate now; None if it does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None
