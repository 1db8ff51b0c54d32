"""The precision that pocket weights are trained in: bf16 over fp32 masters where this CPU is faster in it, or fp32."""

import torch

from fewstep.runtime.cpu_bfloat16 import fast_bfloat16


def quick_autocast() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=fast_bfloat16())
