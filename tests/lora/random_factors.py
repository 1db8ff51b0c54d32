"""LoRA factors of random numbers, for layers with 6 inputs."""

import torch

from fewstep.lora.factors import Factors


def random_factors(rows: int, rank: int, alpha: float, seed: int) -> Factors:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(rank, 6, generator=generator), torch.randn(rows, rank, generator=generator)
    return Factors(a, b, alpha)
