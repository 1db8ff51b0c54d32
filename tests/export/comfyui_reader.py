"""What ComfyUI makes of a LoRA file: written from its published layout, and sharing nothing with `fewstep.lora`. Key by
key it looks for what ComfyUI looks for, and merges as ComfyUI merges."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor


def merged_as_comfyui(file: Path, model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every weight that the file changes: W + alpha / rows(A) B A; a key that no weight has is an error."""
    tensors = load_file(file)
    left, changed = set(tensors), {}
    for name, weight in model.items():
        key = name.removesuffix(".weight")
        if f"{key}.lora_B.weight" in tensors:
            up, down, alpha = (tensors[f"{key}.{part}"] for part in ("lora_B.weight", "lora_A.weight", "alpha"))
            changed[name] = weight + alpha.item() / down.shape[0] * torch.mm(up, down).reshape(weight.shape)
            left -= {f"{key}.lora_B.weight", f"{key}.lora_A.weight", f"{key}.alpha"}
    assert not left, f"ComfyUI would not load {sorted(left)[:3]}"
    return changed
