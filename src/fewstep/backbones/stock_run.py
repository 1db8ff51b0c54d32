"""What a user's own process does with a student folder: open it with stock diffusers and call it. Nothing else of
fewstep takes part (the torchvision remedy aside), so that `fewstep export --verify` tests the folder and not us.

    python -m fewstep.backbones.stock_run REQUEST.json ANSWER.safetensors

REQUEST: {"folder", "dtype", "device", "lora"?, "scheduler"?, "sigmas"?,
          "calls": [{"prompt", "seed", "height", "width", "resolution", "image"?}]}.
ANSWER: for call i the tensors i.latents (1, N, D), i.pixels (H, W, channels; float32 in [0, 1]) and i.times (t of each
network call).
"""

import json
import sys
from pathlib import Path
from typing import Any

from fewstep import _torchvision

_torchvision.ensure()

import torch  # noqa: E402
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import save_file  # noqa: E402


def main(request: Path, answer: Path) -> None:
    asked = json.loads(request.read_text())
    pipe = _opened(asked).to(asked["device"])
    pipe.set_progress_bar_config(disable=True)
    times: list[float] = []
    pipe.transformer.register_forward_pre_hook(
        lambda module, args, named: times.append(float(named["timestep"].flatten()[0])), with_kwargs=True
    )
    tensors: dict[str, torch.Tensor] = {}
    for i, call in enumerate(asked["calls"]):
        times.clear()
        latents, pixels = _drawn(pipe, call, asked.get("sigmas"))
        tensors |= {
            f"{i}.latents": latents.float().cpu().contiguous(),
            f"{i}.pixels": pixels,
            f"{i}.times": torch.tensor(times, dtype=torch.float64),
        }
    save_file(tensors, answer)


def _opened(asked: dict[str, Any]) -> Any:
    """The pipeline; with a LoRA on it, as the card of a LoRA says."""
    dtype = getattr(torch, asked["dtype"])
    pipe = DiffusionPipeline.from_pretrained(asked["folder"], dtype=dtype, local_files_only=True)
    if asked.get("scheduler"):
        pipe.scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(asked["scheduler"], subfolder="scheduler")
    if asked.get("lora"):
        pipe.load_lora_weights(asked["lora"])
    return pipe


def _drawn(pipe: Any, call: dict[str, Any], sigmas: list[float] | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The last latents and the pixels of one plain call: no steps, no guidance; sigmas for a LoRA alone."""
    last: list[torch.Tensor] = []

    def keep(pipe: Any, step: int, t: torch.Tensor, held: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        last[:] = [held["latents"]]
        return {}

    options: dict[str, Any] = {"image": Image.open(call["image"])} if "image" in call else {}
    if sigmas is not None:
        options["sigmas"] = sigmas
    pixels = pipe(
        call["prompt"],
        height=call["height"],
        width=call["width"],
        output_resolution=call["resolution"],
        generator=torch.Generator().manual_seed(call["seed"]),
        callback_on_step_end=keep,
        output_type="np",
        **options,
    ).images[0]
    return last[0], torch.from_numpy(pixels).float().contiguous()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
