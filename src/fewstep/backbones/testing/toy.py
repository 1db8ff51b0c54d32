"""Gaussian worlds: pictures with a known distribution, so that every velocity, score and sampler has a closed form.

x0 ~ N(mean, var), each coordinate on its own. On the path z_t = (1 - t) x0 + t eps the distribution of z_t is
N((1 - t) mean, (1 - t)^2 var + t^2), and conditional means of jointly normal values are linear:
  E[x0 | z] = mean + (1 - t) var / var_t (z - mean_t),   E[eps | z] = t / var_t (z - mean_t),
hence v = E[eps - x0 | z] = -mean + (t - (1 - t) var) / var_t (z - mean_t), and the score is -(z - mean_t) / var_t.

Shapes: B batch, N tokens, D channels, K knots of time, L text positions, R reference tokens. A mean or a variance may
have one token, which then stands for all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor, nn

from fewstep.backbones.backbone import Backbone, Prefix
from fewstep.backbones.conditioning import (
    Conditioning,
)
from fewstep.backbones.layout import Layout, TokenGrid
from fewstep.flow.guidance import NO_GUIDANCE
from fewstep.flow.rng import NamedRNG
from fewstep.flow.sigmas import SigmaGrid


@dataclass(frozen=True)
class GaussianWorld:
    """x0 ~ N(mean_ND, diag var_ND)."""

    mean_ND: Tensor
    var_ND: Tensor

    def at(self, t_B: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of z_t, each BND."""
        t = t_B[:, None, None]
        return (1 - t) * self.mean_ND, (1 - t) ** 2 * self.var_ND + t**2

    def velocity(self, z_BND: Tensor, t_B: Tensor, /) -> Tensor:
        """E[eps - x0 | z_t = z]: the output of a perfectly trained network."""
        mean, var = self.at(t_B)
        return -self.mean_ND + gain(self.var_ND, var, t_B) * (z_BND - mean)

    def score(self, z_BND: Tensor, t_B: Tensor) -> Tensor:
        """grad log p_t(z)."""
        mean, var = self.at(t_B)
        return -(z_BND - mean) / var

    def sample(self, eps_BND: Tensor) -> Tensor:
        """Pictures of this world, one for each standard normal draw."""
        return self.mean_ND + self.var_ND.sqrt() * eps_BND

    def moved(self, offset: Tensor) -> "GaussianWorld":
        return GaussianWorld(self.mean_ND + offset, self.var_ND)


def gain(var_ND: Tensor, var_t_BND: Tensor, t_B: Tensor) -> Tensor:
    """dv/dz = (t - (1 - t) var) / var_t."""
    t = t_B[:, None, None]
    return (t - (1 - t) * var_ND) / var_t_BND


def euler_law(world: GaussianWorld, grid: SigmaGrid) -> list[GaussianWorld]:
    """The exact distribution of each state of the Euler sampler on `grid`, noise first. Every step is affine in z."""
    law = GaussianWorld(torch.zeros_like(world.mean_ND), torch.ones_like(world.var_ND))
    laws = [law]
    for k, sigma in enumerate(grid):
        t = world.mean_ND.new_tensor([sigma])
        step = grid.after(k) - sigma
        slope = 1 + step * gain(world.var_ND, world.at(t)[1], t)[0]
        mean = law.mean_ND + step * world.velocity(law.mean_ND[None], t)[0]
        law = GaussianWorld(mean, slope**2 * law.var_ND)
        laws.append(law)
    return laws


def geometric_mixture(worlds: Sequence[GaussianWorld], weights: Sequence[float]) -> GaussianWorld:
    """The normalised product of densities p_m^w_m, weights summing to one: precisions add up.

    Mixing velocities mixes scores at every t, so with equal variances the mixed velocity is that of this world. With
    unequal ones it is at each t the geometric mixture of the noised worlds, which is not this world noised.
    """
    precision = sum((w / world.var_ND for w, world in zip(weights, worlds, strict=True)), torch.zeros(()))
    pull = sum((w * world.mean_ND / world.var_ND for w, world in zip(weights, worlds, strict=True)), torch.zeros(()))
    return GaussianWorld(pull / precision, 1 / precision)


class GaussianNetwork(nn.Module):
    """A trainable velocity, affine in z, that starts as the exact one of a world.

    v = -m + (gain(t; var) + A(t)) (z - (1 - t) m) + B(t), with m the world's mean moved by the conditioning, and A and
    B linear in t between knots. With A = B = 0 it is exact, so it can be any world's teacher or critic. With the
    student's noise levels as knots each student step is free, so a few-step student of any world is among them too.
    """

    def __init__(self, world: GaussianWorld, knots: Sequence[float] = (0.25, 0.5, 0.75, 1.0)):
        super().__init__()
        self.mean_ND = nn.Parameter(world.mean_ND.clone())
        self.log_var_ND = nn.Parameter(world.var_ND.log())
        self.slope_KND = nn.Parameter(world.mean_ND.new_zeros(len(knots), *world.mean_ND.shape))
        self.offset_KND = nn.Parameter(torch.zeros_like(self.slope_KND))
        self.register_buffer("knots_K", world.mean_ND.new_tensor(sorted(knots)))

    def world(self) -> GaussianWorld:
        return GaussianWorld(self.mean_ND, self.log_var_ND.exp())

    def forward(self, z_BND: Tensor, t_B: Tensor, shift_B1D: Tensor | None = None) -> Tensor:
        """v(z, t), in z's dtype. `shift_B1D` moves the world's mean, each sample's on its own."""
        z, t = z_BND.to(self.mean_ND), t_B.to(self.mean_ND)
        world = self.world() if shift_B1D is None else self.world().moved(shift_B1D.to(z))
        weights_BK = interpolation_weights(t, self.get_buffer("knots_K"))
        slope, offset = (torch.einsum("bk,knd->bnd", weights_BK, p) for p in (self.slope_KND, self.offset_KND))
        v_BND = world.velocity(z, t) + slope * (z - world.at(t)[0]) + offset
        return v_BND.to(z_BND.dtype)


def interpolation_weights(t_B: Tensor, knots_K: Tensor) -> Tensor:
    """Weights (B, K) of linear interpolation between rising knots; constant beyond the outer ones."""
    if len(knots_K) == 1:
        return t_B.new_ones(len(t_B), 1)
    right = torch.searchsorted(knots_K, t_B.contiguous()).clamp(1, len(knots_K) - 1)
    low, high = knots_K[right - 1], knots_K[right]
    share = ((t_B - low) / (high - low)).clamp(0, 1)
    weights = t_B.new_zeros(len(t_B), len(knots_K))
    return weights.scatter(1, right[:, None], share[:, None]).scatter(1, right[:, None] - 1, 1 - share[:, None])


class ToyBackbone(Backbone):
    """A Gaussian world with the interface of a model family. Roles, training and sampling run on it in milliseconds.

    A latent token is the colour of a 16 px tile, in [-1, 1]. A prompt's words and the references' mean colour move
    the world's mean, so conditioning matters and the law under it stays known (`world_of`). No adapters attach to it:
    train it with full copies.
    """

    family: ClassVar[str] = "toy"
    lora_targets = ()
    default_guidance = NO_GUIDANCE
    default_steps = 20
    max_references = 10
    pixels_per_token: ClassVar[int] = 16
    size_multiple: ClassVar[int] = 16

    def __init__(self, world: GaussianWorld | None = None, knots: Sequence[float] = (0.25, 0.5, 0.75, 1.0)):
        world = world or GaussianWorld(torch.tensor([[0.3, -0.2, 0.0]]), torch.tensor([[0.04, 0.09, 0.25]]))
        self.transformer = GaussianNetwork(world, knots).eval().requires_grad_(False)
        self.source = "toy"
        self.latent_channels = world.mean_ND.shape[-1]
        assert self.latent_channels == 3, "a latent token is a colour"

    def velocity(
        self, transformer: nn.Module, z_BND: Tensor, t_B: Tensor, cond: Conditioning, prefix: Prefix | None = None
    ) -> Tensor:
        assert prefix is None
        assert z_BND.shape[1] == cond.layout.target_tokens, (z_BND.shape, cond.layout)
        return transformer(z_BND, t_B, shift_of(cond))

    def world_of(self, cond: Conditioning) -> GaussianWorld:
        """The exact law of the base model's pictures under `cond`; its mean has a batch axis."""
        world = self.transformer.world()  # type: ignore[operator]
        return world.moved(shift_of(cond).to(world.mean_ND))

    def prefix(self, transformer: nn.Module, cond: Conditioning) -> Prefix | None:
        return None

    def encode(
        self, prompts: Sequence[str], references: Sequence[Image.Image] | None, size: tuple[int, int]
    ) -> list[Conditioning]:
        target, images = self.layout_grid(size), list(references or ())
        layout = Layout("edit" if images else "t2i", target, (target,) * len(images), (0,) * len(images))
        latents = torch.cat([self.encode_images([image], size) for image in images], dim=1) if images else None
        texts = [torch.stack([_word(word) for word in prompt.split() or [""]])[None] for prompt in prompts]
        return [Conditioning(text, text.new_ones(text.shape[:2], dtype=torch.bool), layout, latents) for text in texts]

    def encode_images(self, images: Sequence[Image.Image], size: tuple[int, int]) -> Tensor:
        rows, columns = self.layout_grid(size)
        small = [image.convert("RGB").resize((columns, rows), Image.Resampling.BOX) for image in images]
        tokens = [torch.tensor(list(image.tobytes())).view(rows * columns, 3) for image in small]
        return torch.stack(tokens) / 127.5 - 1

    def decode(self, x0_BND: Tensor, target: TokenGrid) -> list[Image.Image]:
        rows, columns = target
        pixels = ((x0_BND.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).unflatten(1, target)
        images = [Image.frombytes("RGB", (columns, rows), bytes(p.flatten().tolist())) for p in pixels.cpu()]
        side = self.pixels_per_token
        return [image.resize((columns * side, rows * side), Image.Resampling.NEAREST) for image in images]

    def sampling_grid(self, steps: int, target: TokenGrid) -> SigmaGrid:
        return SigmaGrid.static(steps)

    def sampling_shift(self, steps: int, target: TokenGrid) -> float:
        return 1.0

    def release_encoder(self) -> None:
        """There is nothing that only encoding needs."""

    def fingerprint(self) -> str:
        return "toy-1"


def shift_of(cond: Conditioning) -> Tensor:
    """How far the conditioning moves the mean: the mean of its words, and of its references' colours. (B, 1, D)."""
    mask_BL1 = cond.mask_BL[..., None].to(cond.text_BLC)
    words = (cond.text_BLC * mask_BL1).sum(1, keepdim=True) / mask_BL1.sum(1, keepdim=True)
    return words if cond.references_BRD is None else words + cond.references_BRD.mean(1, keepdim=True)


def _word(word: str) -> Tensor:
    """A word's own small vector (3,), the same everywhere."""
    return 0.1 * NamedRNG(0).normal((3,), "word " + word)
