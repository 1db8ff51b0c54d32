"""Opens a student folder with stock diffusers and calls it, as a user's own process would.

Apart from the torchvision remedy, no other part of fewstep is used. So `fewstep export --verify` tests the folder, not
our code. A LoRA with ComfyUI's keys is the exception: our own reader, which splits fused layers, adds it to the stock
weights.

    python -m fewstep.backbones.stock_run REQUEST.json ANSWER.safetensors

REQUEST: {"folder", "dtype", "device", "lora"?, "comfyui_lora"?, "scheduler"?, "single_file"?, "time_reversed"?,
          "blocks"?, "left_out_blocks"?, "calls": [{"class", "prompt", "seed", "options", "image"?}]}
    lora, scheduler: folders whose LoRA and scheduler are loaded into the pipeline.
    comfyui_lora: a LoRA file with ComfyUI's keys.
    single_file: a transformer in ComfyUI's layout. Its weights must be those of the folder.
    blocks, left_out_blocks: of a modular pipeline, the class of its blocks and the names of those to leave out.
    time_reversed: the transformer is told 1 - t.
    class: of the pipeline to call, the folder's own or another one over the same parts.
ANSWER: for call i the tensors i.latents (1, N, D, or as the class has them), i.pixels (H, W, channels; float32 in
[0, 1]) and i.times (t of each sample of each network call: a class that guides shows twice as many).
"""

import json
import sys
from pathlib import Path
from typing import Any

from fewstep.runtime import torchvision_pair

torchvision_pair.ensure()

import diffusers  # noqa: E402
import torch  # noqa: E402
from diffusers import ClassifierFreeGuidance, DiffusionPipeline, FlowMatchEulerDiscreteScheduler  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from fewstep.lora.factors import merged  # noqa: E402
from fewstep.lora.file import read_lora  # noqa: E402
from fewstep.lora.keys import to_diffusers_names  # noqa: E402


def run_request(request: Path, answer: Path) -> None:
    asked = json.loads(request.read_text())
    dtype = getattr(torch, asked["dtype"])
    pipe = _opened(asked, dtype).to(asked["device"])
    pipe.set_progress_bar_config(disable=True)
    times: list[float] = []

    def note(module: Any, args: Any, named: dict[str, Any]) -> None:
        t_B = named["timestep"] if "timestep" in named else args[1]
        times.extend(((1 - t_B) if asked.get("time_reversed") else t_B).double().flatten().tolist())

    pipe.transformer.register_forward_pre_hook(note, with_kwargs=True)
    tensors: dict[str, torch.Tensor] = {}
    for i, call in enumerate(asked["calls"]):
        times.clear()
        latents, pixels = _drawn(_answering(pipe, call["class"], dtype), call)
        tensors |= {
            f"{i}.latents": latents.float().cpu().contiguous(),
            f"{i}.pixels": pixels,
            f"{i}.times": torch.tensor(times, dtype=torch.float64),
        }
    save_file(tensors, answer)


def _opened(asked: dict[str, Any], dtype: torch.dtype) -> Any:
    """The pipeline, with the LoRA and the scheduler of the request, loaded as the model card of a LoRA says."""
    pipe = _modular(asked, dtype) if asked.get("blocks") else _classic(asked, dtype)
    if asked.get("scheduler"):
        levels = FlowMatchEulerDiscreteScheduler.from_pretrained(asked["scheduler"], subfolder="scheduler")
        if asked.get("blocks"):
            pipe.update_components(scheduler=levels, guider=ClassifierFreeGuidance(enabled=False))
        else:
            pipe.scheduler = levels
    if asked.get("lora"):
        load_lora(pipe, asked["lora"])
    if asked.get("comfyui_lora"):
        add_lora(pipe.transformer, asked["comfyui_lora"])
    if asked.get("single_file"):
        refuse_other_weights(pipe.transformer, asked["single_file"], asked["folder"])
    return pipe


def _classic(asked: dict[str, Any], dtype: torch.dtype) -> Any:
    return DiffusionPipeline.from_pretrained(asked["folder"], dtype=dtype, local_files_only=True)


def _modular(asked: dict[str, Any], dtype: torch.dtype) -> Any:
    blocks = getattr(diffusers, asked["blocks"])()
    for name in asked["left_out_blocks"]:
        blocks.sub_blocks.pop(name)
    pipe = blocks.init_pipeline(asked["folder"])
    pipe.load_components(pretrained_model_name_or_path=asked["folder"], dtype=dtype)
    return pipe


def load_lora(pipe: Any, folder: str) -> None:
    """As the card says. A pipeline without LoRAs of its own has a transformer that takes them."""
    if hasattr(pipe, "load_lora_weights"):
        pipe.load_lora_weights(folder)
    else:
        pipe.transformer.load_lora_adapter(folder, weight_name="pytorch_lora_weights.safetensors")


@torch.no_grad()
def add_lora(transformer: Any, file: str) -> None:
    """Adds the updates of a LoRA file to the weights. Layers that ComfyUI fuses are split."""
    shapes = {n: tuple(m.weight.shape) for n, m in transformer.named_modules() if isinstance(m, torch.nn.Linear)}
    for module, update in to_diffusers_names(read_lora(Path(file)), shapes, file).items():
        weight = transformer.get_parameter(f"{module}.weight")
        weight.copy_(merged(weight, update, module))


def refuse_other_weights(transformer: Any, file: str, folder: str) -> None:
    """Ends the process if diffusers' own reader of ComfyUI's files finds other weights in `file`."""
    read = type(transformer).from_single_file(
        file, config=folder, subfolder="transformer", dtype=transformer.dtype, local_files_only=True
    )
    found = read.state_dict()
    other = [name for name, value in transformer.state_dict().items() if not torch.equal(value, found[name])]
    if other:
        sys.exit(f"{file} holds other weights than {folder}/transformer, of {other[0]} and {len(other) - 1} more")


def _answering(pipe: Any, name: str, dtype: torch.dtype) -> Any:
    """The pipeline itself, or that of another class over its parts."""
    if type(pipe).__name__ == name:
        return pipe
    other = getattr(diffusers, name).from_pipe(pipe, dtype=dtype)  # without a dtype it casts the parts to float32
    other.set_progress_bar_config(disable=True)
    return other


def _drawn(pipe: Any, call: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """The last latents and the pixels of one call, which gets the options of the request and no others."""
    last: list[torch.Tensor] = []
    step = pipe.scheduler.step

    def keep(*given: Any, **named: Any) -> Any:
        answer = step(*given, **named)
        last[:] = [answer[0]]
        return answer

    pipe.scheduler.step = keep  # not every class has a callback
    picture_of = {"image": Image.open(call["image"])} if "image" in call else {}
    pixels = pipe(
        prompt=call["prompt"],
        generator=torch.Generator().manual_seed(call["seed"]),
        output_type="np",
        **picture_of,
        **call["options"],
    ).images[0]
    pipe.scheduler.step = step
    return last[0], torch.from_numpy(pixels).float().contiguous()


if __name__ == "__main__":
    run_request(Path(sys.argv[1]), Path(sys.argv[2]))
