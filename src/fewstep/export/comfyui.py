"""What ComfyUI needs besides the LoRA: the noise levels as it reads them, and a graph that uses them.

ComfyUI has no `sample_sigmas`: a student that is sampled by its usual scheduler nodes gets other noise levels than it
was trained on. The graphs here give them by ManualSigmas, step by plain Euler, and guide nothing. They are in the API
format, which the server takes as a prompt and the page opens as a workflow.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from fewstep.errors import ExportError

FOLDER = "comfyui"
LORA_FILE = "{name}-lora.safetensors"  # of what the student is called: models/loras/ holds many
FAMILY = "qwen-image-2.1"  # whose keys, nodes and files are told here
# field: the files of Comfy-Org/Qwen-Image-2.1; who has others chooses them in the three loaders
UNET = "qwen_image_2.1_bf16.safetensors"
TEXT_ENCODER = "qwen3vl_8b_bf16.safetensors"
VAE = "qwen_image_2.1_vae_bf16.safetensors"

Graph = dict[str, dict[str, Any]]
Link = Sequence[str | int]  # node, number of its output


def refuse_family(family: str) -> None:
    """
    Raises:
        ExportError: how ComfyUI names and fuses the layers of `family` is not known here.
    """
    if family != FAMILY:
        raise ExportError(
            f"a LoRA for ComfyUI is written for {FAMILY} alone; how ComfyUI names the layers of {family} is not known "
            "here. Write the one for diffusers: --lora diffusers"
        )


def manual_sigmas(grid: Sequence[float]) -> str:
    """The grid and its closing 0, for ManualSigmas. It reads digits and points alone: an exponent would become a level
    of its own."""
    return ", ".join([*(_decimal(sigma) for sigma in grid), "0"])


def _decimal(sigma: float) -> str:
    return f"{sigma:.10f}".rstrip("0").rstrip(".")


def write_workflows(folder: Path, lora_file: str, grid: Sequence[float], size: tuple[int, int]) -> None:
    """sigmas.txt and one graph for each task. lora_file: its name in ComfyUI's models/loras/; size: height, width."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sigmas.txt").write_text(manual_sigmas(grid) + "\n")
    for task in ("t2i", "edit"):
        graph = workflow(task, lora_file, grid, size)
        (folder / f"workflow-{task}.json").write_text(json.dumps(graph, indent=2) + "\n")


def workflow(task: Literal["t2i", "edit"], lora_file: str, grid: Sequence[float], size: tuple[int, int]) -> Graph:
    """The graph of one task."""
    height, width = size
    side = round((height * width) ** 0.5 / 32) * 32  # the node takes multiples of 32
    graph: Graph = {
        "base": _node("UNETLoader", unet_name=UNET, weight_dtype="default"),
        "student": _node("LoraLoaderModelOnly", model=["base", 0], lora_name=lora_file, strength_model=1.0),
        "text encoder": _node("CLIPLoader", clip_name=TEXT_ENCODER, type="qwen_image", device="default"),
        "vae": _node("VAELoader", vae_name=VAE),
        "noise": _node("RandomNoise", noise_seed=0),
        "sampler": _node("KSamplerSelect", sampler_name="euler"),
        "sigmas": _node("ManualSigmas", sigmas=manual_sigmas(grid)),
        "guider": _node("BasicGuider", model=["student", 0], conditioning=["prompt", 0]),
        "sample": _node(
            "SamplerCustomAdvanced",
            noise=["noise", 0],
            guider=["guider", 0],
            sampler=["sampler", 0],
            sigmas=["sigmas", 0],
            latent_image=["prompt", 2] if task == "edit" else ["size", 0],
        ),
        "decode": _node("VAEDecode", samples=["sample", 0], vae=["vae", 0]),
        "save": _node("SaveImage", images=["decode", 0], filename_prefix=lora_file.removesuffix(".safetensors")),
    }
    return _numbered(graph | (_edit(side) if task == "edit" else _t2i(side, height, width)))


def _t2i(side: int, height: int, width: int) -> Graph:
    return {
        "prompt": _prompt("A small house by the sea at sunset.", side),
        "size": _node("EmptyLatentImage", width=width, height=height, batch_size=1),
    }


def _edit(side: int) -> Graph:
    """The latent comes from the prompt's node, in the reference's own shape: any other would shift the picture."""
    return {
        "picture": _node("LoadImage", image="example.png"),
        "prompt": _prompt("Make it night.", side, {"vae": ["vae", 0], "images.image_1": ["picture", 0]}),
    }


def _prompt(words: str, side: int, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    node = _node("TextEncodeQwenImage21", clip=["text encoder", 0], prompt=words, negative_prompt="", resolution=side)
    return {**node, "inputs": {**node["inputs"], **(more or {})}}


def _node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def _numbered(graph: Graph) -> Graph:
    """Nodes by number, as ComfyUI names them; what they are here becomes their title."""
    numbers = {name: str(number) for number, name in enumerate(graph, 1)}

    def linked(value: Any) -> Any:
        return [numbers[value[0]], value[1]] if isinstance(value, list) else value

    return {
        numbers[name]: {
            "class_type": node["class_type"],
            "inputs": {key: linked(value) for key, value in node["inputs"].items()},
            "_meta": {"title": name},
        }
        for name, node in graph.items()
    }
