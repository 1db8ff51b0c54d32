"""What a student needs in ComfyUI besides its weights: its noise levels in ComfyUI's form, and graphs that use them.

ComfyUI has no `sample_sigmas`. Its default scheduler nodes would give a student other noise levels than those it was
trained on. The graphs set them with ManualSigmas, take plain Euler steps, and use no guidance. They are in the API
format, which the server takes as a prompt and the web page opens as a workflow.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fewstep.export.graphs import (
    ComfyUIBase,
    Graph,
    Size,
    graph,
)
from fewstep.lora.comfyui_layout import LAYOUTS, comfyui_layout_of
from fewstep.runtime.errors import ExportError
from fewstep.runtime.task import Task

FOLDER = "comfyui"
LORA_FILE = "{name}-lora.safetensors"  # with the student's name, because models/loras/ holds many
MODEL_FILE = "{name}.safetensors"
SIGMAS = "sigmas.txt"


def refuse_unknown(modules: Iterable[str], family: str) -> None:
    """Refuses a model whose layout in ComfyUI is not known here.

    Raises:
        ExportError: how ComfyUI names and fuses the layers of these modules is not known.
    """
    if comfyui_layout_of(modules) is None:
        known = ", ".join(layout.family for layout in LAYOUTS)
        raise ExportError(
            f"how ComfyUI names the layers of {family} is not known here (it is of {known}). Leave --single-file out, "
            "and write the LoRA for diffusers: --lora diffusers"
        )


def refuse_unread(modules: Iterable[str]) -> None:
    """Refuses a LoRA in bare keys, with diffusers' names, of a family of which ComfyUI is not known to read those.

    Raises:
        ExportError: they are of such a family.
    """
    layout = comfyui_layout_of(modules)
    if layout is not None and not layout.diffusers_names:
        raise ExportError(
            f"no program is known here to read bare keys (--lora plain) of {layout.family}, whose layers ComfyUI names "
            "as the makers do. Take --lora comfyui"
        )


def manual_sigmas(grid: Sequence[float]) -> str:
    """The grid with its closing 0, as text for ManualSigmas. That node reads only digits and points: an exponent would
    be read as another level."""
    return ", ".join([*(_decimal(sigma) for sigma in grid), "0"])


def _decimal(sigma: float) -> str:
    return f"{sigma:.10f}".rstrip("0").rstrip(".")


def workflow_file(task: Task, single_file: bool) -> str:
    return f"workflow-{task}{'-single-file' if single_file else ''}.json"


def write_workflows(
    folder: Path,
    base: ComfyUIBase,
    tasks: Iterable[Task],
    grid: Sequence[float],
    size: Size,
    *,
    lora: str | None = None,
    unet: str | None = None,
) -> None:
    """Writes sigmas.txt, and one graph for each task: with a LoRA on the base, or with the student's own file (see
    `graph`)."""
    folder.mkdir(parents=True, exist_ok=True)
    sigmas = manual_sigmas(grid)
    (folder / SIGMAS).write_text(sigmas + "\n")
    for task in tasks:
        made = numbered(graph(base, task, sigmas, size, lora=lora, unet=unet))
        (folder / workflow_file(task, unet is not None)).write_text(json.dumps(made, indent=2) + "\n")


def numbered(nodes: Graph) -> Graph:
    """The same graph with numbers as names of nodes, as ComfyUI has them. Their names here become their titles."""
    numbers = {name: str(number) for number, name in enumerate(nodes, 1)}

    def linked(value: Any) -> Any:
        return [numbers[value[0]], value[1]] if isinstance(value, list) else value

    return {
        numbers[name]: {
            "class_type": node["class_type"],
            "inputs": {key: linked(value) for key, value in node["inputs"].items()},
            "_meta": {"title": name},
        }
        for name, node in nodes.items()
    }
