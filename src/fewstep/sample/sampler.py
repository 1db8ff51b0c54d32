"""From noise to clean latents: the sampler of the stock pipeline, on any grid.

Shapes: B batch, N latent tokens of the target, D latent channels.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from fewstep.backbones.backbone import Backbone, Prefix
from fewstep.backbones.conditioning import (
    Conditioning,
)
from fewstep.backbones.layout import Layout, TokenGrid
from fewstep.flow.guidance import NO_GUIDANCE, Guidance
from fewstep.flow.guided_velocity import guided
from fewstep.flow.sigmas import SigmaGrid
from fewstep.flow.solver import Velocity, trajectory
from fewstep.runtime.errors import LayoutError


class SamplerBackbone(Protocol):
    """What the sampler needs of a family: a Backbone, or one whose calls are counted."""

    def noise_shape(self, layout: Layout) -> tuple[int, int]: ...

    def prefix(self, transformer: nn.Module, cond: Conditioning) -> Prefix | None: ...

    def velocity(
        self, transformer: nn.Module, z_BND: Tensor, t_B: Tensor, cond: Conditioning, prefix: Prefix | None = None
    ) -> Tensor: ...


def sample(
    backbone: SamplerBackbone,
    transformer: nn.Module,
    cond: Conditioning,
    noise_BND: Tensor,
    grid: SigmaGrid,
    guidance: Guidance = NO_GUIDANCE,
    negative: Conditioning | None = None,
    use_prefix: bool = True,
) -> Tensor:
    """Clean latents x0_BND after `evaluations(grid, guidance)` network evaluations of each sample.

    States have the dtype of the noise at every step, as in the stock pipeline. With `use_prefix`, text and references
    are computed once for each branch and reused at every step. This is exact, because they do not depend on t.

    Raises:
        LayoutError: guidance without a negative branch, or noise of another shape than the layout's target.
    """
    expected = (len(cond), *backbone.noise_shape(cond.layout))
    if tuple(noise_BND.shape) != expected:
        raise LayoutError(f"noise of shape {tuple(noise_BND.shape)} does not fit {expected}, the target of this layout")
    if guidance.active and negative is None:
        raise LayoutError(
            f"guidance {guidance.scale} needs the unconditional branch: encode the negative prompt "
            f"{guidance.negative!r} with the same references, or sample with guidance 1"
        )
    with torch.no_grad():
        velocity = _bound(backbone, transformer, cond, use_prefix)
        if guidance.active:
            assert negative is not None
            velocity = _guided(velocity, _bound(backbone, transformer, negative, use_prefix), guidance)
        return trajectory(velocity, noise_BND, grid)[-1]


def evaluations(grid: SigmaGrid, guidance: Guidance = NO_GUIDANCE) -> int:
    """NFE: the number of network evaluations for one picture, on both branches. The prefix is part of the first one."""
    return len(grid) * (2 if guidance.active else 1)


def seeded_noise(
    seeds: Sequence[int], target: TokenGrid, channels: int, dtype: torch.dtype = torch.float32, patch: int = 1
) -> Tensor:
    """Row i is the packed noise (1, N, D) that the stock pipeline draws with torch.Generator().manual_seed(seeds[i]).

    The pipeline draws (1, 1, D / patch^2, patch rows, patch columns) on the CPU in the dtype of its embeddings. It
    packs that as tokens, each of `patch` x `patch` places (`Backbone.noise_patch`). `dtype` matters: with one seed, a
    bfloat16 draw is not the rounded float32 draw.
    """
    rows, columns = target
    shape = (1, channels // patch**2, rows, patch, columns, patch)
    drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) for seed in seeds]
    return torch.cat(drawn).permute(0, 2, 4, 1, 3, 5).reshape(len(drawn), rows * columns, channels)


def pipeline_noise(backbone: Backbone, cond: Conditioning, seeds: Sequence[int]) -> Tensor:
    """The noise (BND) of each seed as the stock pipeline begins with it, on the backbone's device."""
    drawn, kept = backbone.noise_dtypes(cond.layout.task, cond.text_BLC.dtype)
    channels, patch = backbone.latent_channels, backbone.noise_patch
    return seeded_noise(seeds, cond.layout.target, channels, drawn, patch).to(backbone.device, kept)


def _bound(backbone: SamplerBackbone, transformer: nn.Module, cond: Conditioning, use_prefix: bool) -> Velocity:
    prefix: Prefix | None = backbone.prefix(transformer, cond) if use_prefix else None

    def velocity(z_BND: Tensor, t_B: Tensor) -> Tensor:
        return backbone.velocity(transformer, z_BND, t_B, cond, prefix)

    return velocity


def _guided(conditional: Velocity, unconditional: Velocity, guidance: Guidance) -> Velocity:
    def velocity(z_BND: Tensor, t_B: Tensor) -> Tensor:
        return guided(conditional(z_BND, t_B), unconditional(z_BND, t_B), guidance)

    return velocity
