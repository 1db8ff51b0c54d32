"""The pocket VAE: a fixed encoder by principal components, and a decoder that learns beyond them.

The encoder writes a 16 x 16 px tile as its first 64 principal components, whitened. So latents have unit scale and are
additive (two letters in one tile give the sum of both). Because it is fixed, the teacher can train while the decoder
still learns. The decoder starts as the exact inverse and learns, with noise on its input, to smooth across tiles.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fewstep.pocket.build import (
    CHANNELS,
    TILE,
    Vae,
)
from pocket_making.precision import quick_autocast

LEVEL = 256.0  # value of a constant channel that keeps the last RMS norm from depending on the picture
SILENT = -12.0  # log variance of the posterior; the pipeline uses its mode


def pixels(images: np.ndarray | Tensor) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 4, 1, H, W) in [-1, 1], alpha 1."""
    rgb = torch.as_tensor(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    return torch.cat([rgb, torch.ones_like(rgb[:, :1])], dim=1)[:, :, None]


def tiles(x: Tensor) -> Tensor:
    """(B, 4, 1, H, W) -> (B, 1024, 1, H/16, W/16), in the channel order of the stock class: colour, column, row."""
    b, c, f, h, w = x.shape
    x = x.view(b, c, f, h // TILE, TILE, w // TILE, TILE).permute(0, 1, 6, 4, 2, 3, 5)
    return x.reshape(b, c * TILE * TILE, f, h // TILE, w // TILE)


def untiles(x: Tensor) -> Tensor:
    b, _, f, h, w = x.shape
    x = x.view(b, 4, TILE, TILE, f, h, w).permute(0, 1, 4, 5, 3, 6, 2)
    return x.reshape(b, 4, f, h * TILE, w * TILE)


@torch.no_grad()
def set_identity(block: Any) -> None:
    """Sets up a middle or upsampling block so that its residual branches add nothing at first."""
    for resnet in block.resnets:
        nn.init.zeros_(resnet.conv2.weight)
        nn.init.zeros_(resnet.conv2.bias)
    for attention in getattr(block, "attentions", []):
        nn.init.zeros_(attention.proj.weight)
        nn.init.zeros_(attention.proj.bias)


@torch.no_grad()
def clear_unread(encoder: Any) -> None:
    """Zeroes weights of the middle block whose answer is multiplied by zero. Pictures stay what they are; the random
    numbers that nothing reads would take half a megabyte of the wheel."""
    for resnet in encoder.mid_block.resnets:
        if not resnet.conv2.weight.any():
            nn.init.zeros_(resnet.conv1.weight)
            nn.init.zeros_(resnet.conv1.bias)
    for attention in encoder.mid_block.attentions:
        if not attention.proj.weight.any():
            nn.init.zeros_(attention.to_qkv.weight)
            nn.init.zeros_(attention.to_qkv.bias)


@torch.no_grad()
def set_principal_components(vae: Vae, images: np.ndarray) -> float:
    """Initialises encoder and decoder from these pictures' tiles; returns the share of variance kept.

    Channels come in pairs (+a, -a), since silu(a) - silu(-a) = a. A constant channel of level L holds the RMS norm at
    sqrt(L^2 + 2 |a|^2) ~ L, and gamma undoes it.
    """
    flat = tiles(pixels(images)).permute(0, 2, 3, 4, 1).reshape(-1, 4 * TILE * TILE).double()
    mean = flat.mean(0)
    values, vectors = torch.linalg.eigh((flat - mean).T @ (flat - mean) / len(flat))
    std, basis = values[-CHANNELS:].flip(0).sqrt(), vectors[:, -CHANNELS:].flip(1)
    write, read = (basis / std).T.float(), (basis * std).float()
    for side, into, offset in (
        (vae.encoder, write, -(write @ mean.float())),
        (vae.decoder, torch.eye(CHANNELS), torch.zeros(CHANNELS)),
    ):
        set_pairs(side, into, offset)
        set_identity(side.mid_block)
    set_identity(vae.decoder.up_blocks[0])
    set_gains(vae.decoder)
    set_readout(vae.encoder, torch.cat([torch.eye(CHANNELS), torch.zeros(CHANNELS, CHANNELS)]), None)
    vae.encoder.conv_out.bias[CHANNELS:] = SILENT
    set_readout(vae.decoder, read, mean.float())
    for conv in (vae.quant_conv, vae.post_quant_conv):
        conv.weight.copy_(torch.eye(conv.weight.shape[0])[:, :, None, None])
        conv.bias.zero_()
    return float(values[-CHANNELS:].sum() / values.sum())


def set_pairs(side: Any, into: Tensor, offset: Tensor) -> None:
    """conv_in writes +a, -a and the constant; spare channels are zero until the decoder learns to use them."""
    conv, norm = side.conv_in, side.norm_out
    conv.weight.zero_()
    conv.bias.zero_()
    for sign, rows in ((1.0, slice(0, CHANNELS)), (-1.0, slice(CHANNELS, 2 * CHANNELS))):
        conv.weight[rows, :, 1, 1] = sign * into
        conv.bias[rows] = sign * offset
    conv.bias[2 * CHANNELS] = LEVEL
    typical = math.sqrt(LEVEL**2 + 2 * CHANNELS)
    norm.gamma.fill_(typical / norm.gamma.shape[0] ** 0.5)


@torch.no_grad()
def set_gains(side: Any) -> None:
    """Lets every residual branch see the pairs at unit scale and the constant as 1, and hides the constant from the
    read-out.

    Otherwise a step of Adam on a weight that reads the constant would move the picture by L times the rate.
    """
    norms = [r.norm1 for block in (side.mid_block, side.up_blocks[0]) for r in block.resnets]
    norms += [attention.norm for attention in side.mid_block.attentions]
    final = side.norm_out.gamma
    root = final.shape[0] ** 0.5
    for norm in norms:
        norm.gamma.fill_(math.sqrt(LEVEL**2 + 2 * CHANNELS) / root)
        norm.gamma[2 * CHANNELS] = 1 / root
    final[2 * CHANNELS] = 0


def set_readout(side: Any, out_of: Tensor, bias: Tensor | None) -> None:
    conv = side.conv_out
    conv.weight.zero_()
    conv.bias.zero_()
    conv.weight[:, :CHANNELS, 1, 1] = out_of
    conv.weight[:, CHANNELS : 2 * CHANNELS, 1, 1] = -out_of
    if bias is not None:
        conv.bias.copy_(bias)


@torch.no_grad()
def encode_images(vae: Vae, images: np.ndarray, chunk: int = 500) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, N, 64) latent tokens, as the pipeline packs them."""
    parts = [vae.encode(pixels(images[i : i + chunk])).latent_dist.mode() for i in range(0, len(images), chunk)]
    return torch.cat(parts).flatten(2).transpose(1, 2).contiguous()


@torch.no_grad()
def decode_tokens(vae: Vae, z_BND: Tensor, chunk: int = 500, grid: tuple[int, int] | None = None) -> np.ndarray:
    """(B, N, 64) -> (B, H, W, 3) uint8; `grid`: rows and columns of the tokens, of a square unless given."""
    side = math.isqrt(z_BND.shape[1])
    z = z_BND.transpose(1, 2).unflatten(2, (1, *(grid or (side, side))))
    shown = torch.cat([vae.decode(part).sample for part in z.split(chunk)])[:, :3, 0]
    return ((shown + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


def train_decoder(
    vae: Vae,
    pictures: Sequence[np.ndarray],
    minutes: float,
    batch: int = 48,
    rate: float = 4e-4,
    noise: float = 0.12,
    log: Callable[[str], None] = print,
) -> Iterator[float]:
    """Trains the decoder for some minutes; yields the share of time spent about twice a minute, for saving and
    inspection.

    pictures: arrays (n, H, W, 3), one of each size; a batch is of one size, each as often as it has pictures.
    Input noise is drawn per picture, N(0, s^2) with s ~ U(0, noise): the teacher's latents are never exact.
    """
    vae.encoder.requires_grad_(False)
    learned = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    optimiser = torch.optim.AdamW(learned, lr=rate, betas=(0.9, 0.99), weight_decay=0.0)
    shares = torch.tensor([float(len(images)) for images in pictures])
    generator, started, told, step = torch.Generator().manual_seed(0), time.monotonic(), 0.0, 0
    while (spent := (time.monotonic() - started) / 60 / minutes) < 1:
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 100, (1 - spent) / 0.4)
        images = pictures[int(torch.multinomial(shares, 1, generator=generator))]
        x = pixels(images[torch.randint(len(images), (batch,), generator=generator).numpy()])
        with quick_autocast():
            with torch.no_grad():
                z = vae.encode(x).latent_dist.mode().float()
                z += (
                    noise
                    * torch.rand(batch, 1, 1, 1, 1, generator=generator)
                    * torch.randn(z.shape, generator=generator)
                )
            y = vae.decoder(vae.post_quant_conv(z))
        gap = (untiles(y.float()) - x)[:, :3]
        loss = (gap**2).mean() + 0.1 * gap.abs().mean() + 0.1 * seams(gap)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
        step += 1
        if time.monotonic() - told > 30:
            told = time.monotonic()
            log(f"decoder {spent:.0%} step {step} loss {loss.item():.5f} mse {(gap**2).mean().item():.5f}")
            yield spent


def seams(gap: Tensor) -> Tensor:
    """Mean jump of the error between neighbouring pixels; where it is large, a grid is visible."""
    return gap.diff(dim=-1).abs().mean() + gap.diff(dim=-2).abs().mean()


@torch.no_grad()
def encode_closed_form(vae: Vae, images: np.ndarray, chunk: int = 1000) -> Tensor:
    """`encode_images` in closed form: one product and the RMS norm after it. Valid for the encoder as initialised."""
    conv = vae.encoder.conv_in
    write, offset = conv.weight[:CHANNELS, :, 1, 1].T, conv.bias[:CHANNELS]
    gain = vae.encoder.norm_out.gamma.flatten()[0] * vae.encoder.norm_out.gamma.shape[0] ** 0.5
    parts = []
    for i in range(0, len(images), chunk):
        a = tiles(pixels(images[i : i + chunk])).flatten(2).transpose(1, 2) @ write + offset
        parts.append(a * gain * torch.rsqrt(LEVEL**2 + 2 * (a**2).sum(-1, keepdim=True)))
    return torch.cat(parts)
