"""What `fewstep doctor` prints: the machine, and whether a model can be used on it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from fewstep.backbones.conditioning import stack
from fewstep.backbones.families import (
    MODEL_FAMILIES,
    POCKET,
    family_of,
    load_backbone,
    model_shapes,
    pocket_folder,
)
from fewstep.backbones.folder import (
    folder_of,
    read_json,
    sample_sigmas,
)
from fewstep.export.card import licence_of
from fewstep.flow.rng import NamedRNG
from fewstep.run import folder
from fewstep.runtime.cpu_bfloat16 import bf16_against_fp32

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
    if model is not None:
        _model(model, console)


def _model(source: str, console: Console) -> None:
    """First the facts from the files, which cost nothing; then one network call."""
    folder = folder_of(pocket_folder() if source == POCKET else source)
    family = family_of(folder)
    index = family.inspect(folder)
    table = Table(show_header=False, title=source)
    table.add_row("folder", f"{folder}: complete")
    table.add_row(
        "family", f"{family.family} ({index['_class_name']}; known: {', '.join(sorted(MODEL_FAMILIES.names()))})"
    )
    table.add_row("tasks", ", ".join(family.task_pipelines(index["_class_name"])))
    licence = licence_of(folder)
    table.add_row("licence", licence.words if licence.id else f"not stated here; {family.default_licence}")
    shapes = model_shapes(folder).shapes.values()
    table.add_row("transformer", f"{sum(math.prod(shape) for shape in shapes) / 1e6:,.1f} M parameters")
    guidance, steps = family.default_sampling(index)
    sigmas = sample_sigmas(folder)
    table.add_row("sampler", f"student at {list(sigmas)}" if sigmas else f"teacher, {steps} steps by default")
    table.add_row("scheduler", _scheduler(read_json(folder / "scheduler" / "scheduler_config.json")))
    words = f"{guidance.scale:g}" + (", kept norm" if guidance.keep_norm else "")
    table.add_row("guidance", "none: a student" if sigmas else words)
    table.add_row("one network call", _called(source, folder))
    console.print(table)


def _scheduler(config: Mapping[str, Any]) -> str:
    dynamic = config.get("use_dynamic_shifting", False)
    words = "shift by size" if dynamic else f"shift {config.get('shift', 1.0):g}"
    terminal = config.get("shift_terminal")
    return words + (f", ends at {terminal:g}" if terminal else "")


def _called(source: str, folder: Path) -> str:
    """The result of one velocity at the smallest sensible size, in words. It is not computed if the weights would not
    fit."""
    needed = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))  # bf16 weights, as they are stored
    free = available_memory()
    if free is not None and needed * HEADROOM > free:
        return f"not made: {needed / 2**30:.0f} GiB of weights, {free / 2**30:.0f} GiB of memory are free here"
    backbone = load_backbone(source, dtype=torch.bfloat16)
    side = backbone.size_multiple * 2
    cond = stack(backbone.encode(["a red house"], None, (side, side)))
    z_BND = NamedRNG(0).normal((1, *backbone.noise_shape(cond.layout)), "doctor").to(cond.text_BLC.dtype)
    with torch.no_grad():
        v_BND = backbone.velocity(backbone.transformer, z_BND, torch.ones(1), cond)
    rms = v_BND.float().square().mean().sqrt().item()
    return f"answers, rms velocity {rms:.2f}" if rms == rms else "answers NaN: damaged weights"


def available_memory() -> int | None:
    """Bytes that this machine can allocate now; None if it does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None
