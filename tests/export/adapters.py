"""LoRA updates of random numbers."""

import torch
from torch import Tensor

from fewstep.backbones.qwen_image_21 import QwenImage21


def random_adapter(backbone: QwenImage21, rank: int = 3, scale: float = 0.1, seed: int = 1) -> dict[str, Tensor]:
    """An update of every module that adapters attach to, in peft's naming with an adapter's name in it."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    for name, module in backbone.transformer.named_modules():
        if isinstance(module, torch.nn.Linear) and name.endswith(backbone.lora_targets):
            rows, columns = module.weight.shape
            a = torch.randn(rank, columns, generator=generator)
            state[f"{name}.lora_A.student.weight"] = scale * a
            state[f"{name}.lora_B.student.weight"] = scale * torch.randn(rows, rank, generator=generator)
    return state
