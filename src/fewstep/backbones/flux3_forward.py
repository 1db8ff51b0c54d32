"""The forward of FLUX 3's transformer for texts that were projected before, and for batches of unequal texts.

Two things are done otherwise than in the stock forward, which is called with one prompt. Texts come as the answer of
the transformer's `context_embedder` (3,072 channels in the place of 20,480), which is what a store holds. And in a
batch of texts of unequal lengths nobody attends to what stands behind a text, so each is answered as alone. The mask
reaches the attention with the rotary tables, the one argument that the stock blocks hand on unseen.

The stock blocks are used, and they run under the stock module's own call, so hooks on it still run. All positions of
one kind have one modulation, which is computed once and not for each position. Contract tests compare the results with
those of the stock forward.

Shapes: B batch, L text positions, N target tokens, R reference tokens, S = L + N + R, D latent channels, C channels of
the transformer, H half of a head's channels, twice.
"""

from collections.abc import Sequence
from functools import wraps
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm, silu

from fewstep.backbones.layout import Layout
from fewstep.backbones.stock import Flux3AttnProcessor, Flux3Transformer2DModel, flux3_picture_positions
from fewstep.runtime.device import to_device

ROTARY_SCALE = 0.5  # of rows and columns (image_rope_scale of the stock blocks)

Rotary = tuple[Tensor, ...]  # cosines (S, H), sines (S, H), and where some key is not valid a mask (B, 1, 1, S)


class MaskedFlux3Processor(Flux3AttnProcessor):
    """The stock processor, which also takes the mask of valid keys behind the rotary tables."""

    def __call__(
        self, attn: Any, hidden_states: Tensor, attention_mask: Tensor | None = None, image_rotary_emb: Any = None
    ) -> Tensor:
        if image_rotary_emb is not None and len(image_rotary_emb) == 3:
            *image_rotary_emb, attention_mask = image_rotary_emb
        return super().__call__(attn, hidden_states, attention_mask, image_rotary_emb)


class FloatNorm(nn.RMSNorm):
    """The norm of queries and keys, which the stock processor hands float32 whatever the weights have. Weights that are
    rounded for a forward, as those of a whole student are, would otherwise meet it in bfloat16."""

    def forward(self, x: Tensor) -> Tensor:
        weight = None if self.weight is None else self.weight.to(x.dtype)
        return rms_norm(x, self.normalized_shape, weight, self.eps)


def forward_flux3(
    transformer: Any,
    z_BND: Tensor,
    t_B: Tensor,
    text_BLC: Tensor,
    lengths_B: Sequence[int],
    references_BRD: Tensor | None,
    layout: Layout,
) -> Tensor:
    """The transformer's answer, (B, N, D).

    Args:
        t_B: as the stock pipeline rounds it, in [0, 1].
        text_BLC: projected texts.
        lengths_B: the number of valid positions of each text, on the host.
    """
    _install(transformer)
    valid = None
    if min(lengths_B) < text_BLC.shape[1]:
        ends_B1 = torch.tensor(lengths_B)[:, None]
        valid = to_device(torch.arange(text_BLC.shape[1]) < ends_B1, text_BLC.device)
    answer: Tensor = transformer(
        z_BND, t_B, text_BLC, references_BRD, projected=(valid, _positions(layout, text_BLC.shape[1]))
    )
    return answer


def _positions(layout: Layout, texts: int) -> list[Tensor]:
    """Positions (.., 4) of the texts, of the target, and of all references: time, row, column, place in the text or
    minus the reference's number."""
    text = torch.zeros(texts, 4)
    text[:, 3] = torch.arange(texts)
    pictures = [
        flux3_picture_positions(rows, columns, ROTARY_SCALE, l_coord=-number)
        for number, (rows, columns) in enumerate((layout.target, *layout.references))
    ]
    return [text, pictures[0], *([torch.cat(pictures[1:])] if layout.references else [])]


def _install(transformer: Any) -> None:
    """Gives this module a forward that accepts both kinds of call, and its attention the mask. A deep copy of the
    module has them too."""
    if "forward" in vars(transformer):
        return
    transformer.forward = MethodType(_dispatch, transformer)
    for module in transformer.modules():
        if type(getattr(module, "processor", None)) is Flux3AttnProcessor:
            module.set_processor(MaskedFlux3Processor())
            module.norm_q.__class__ = module.norm_k.__class__ = FloatNorm


@wraps(Flux3Transformer2DModel.forward)  # the stock blocks hand over what they find in its signature
def _dispatch(self: Any, *given: Any, projected: Any = None, **named: Any) -> Any:
    # The stock forward for stock arguments, and ours for projected texts.
    return type(self).forward(self, *given, **named) if projected is None else _forward(self, *given, *projected)


def _forward(
    self: Any,
    z_BND: Tensor,
    t_B: Tensor,
    text: Tensor,
    references: Tensor | None,
    valid_BL: Tensor | None,
    positions: Sequence[Tensor],
) -> Tensor:
    image_B1C, zero_B1C = _times(self, t_B, z_BND.dtype)
    image, zero = silu(image_B1C), silu(zero_B1C)
    tables: list[Rotary] = [self.pos_embed(to_device(each, z_BND.device)) for each in positions]
    early, joint = self.early_stream_modulations, self.single_stream_modulations

    masked = tables[0] if valid_BL is None else (*tables[0], valid_BL[:, None, None])
    for block in self.txt_mode_blocks:
        text = _run(self, block, text, early["txt"](zero), masked)
    content = self.x_embedders["image"](z_BND)
    for block in self.mode_blocks["image"]:
        content = _run(self, block, content, early["image"](image), tables[1])
    modulation = joint["image"](image)
    if references is not None:
        known = self.x_embedders["image_cond"](references)
        for block in self.mode_blocks["image_cond"]:
            known = _run(self, block, known, early["image_cond"](zero), tables[2])
        parts = ((modulation, content), (joint["image_cond"](zero), known))
        modulation = torch.cat([each.expand(-1, tokens.shape[1], -1) for each, tokens in parts], dim=1)
        content = torch.cat([content, known], dim=1)

    rotary = _joined(tables, valid_BL)
    of_text = joint["txt"](zero)
    for block in self.single_transformer_blocks:
        text, content = _run(self, block, content, text, modulation, of_text, rotary)
    answer: Tensor = self.proj_out(self.norm_out(content[:, : z_BND.shape[1]], image_B1C))
    return answer


def _times(self: Any, t_B: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The embeddings (B, 1, C) of t and of 0. The stock forward multiplies t by 1,000 in the latents' dtype."""
    both = torch.cat([t_B.to(dtype) * 1000, torch.zeros_like(t_B, dtype=dtype)])
    embedded: Tensor = self.timestep_embedder(self.time_proj(both).to(dtype))
    image_B1C, zero_B1C = embedded[:, None].chunk(2)
    return image_B1C, zero_B1C


def _joined(tables: Sequence[Rotary], valid_BL: Tensor | None) -> Rotary:
    cosines, sines = (torch.cat([table[i] for table in tables]) for i in (0, 1))
    if valid_BL is None:
        return cosines, sines
    pictures = cosines.shape[0] - valid_BL.shape[1]
    whole_BS = torch.cat([valid_BL, valid_BL.new_ones(len(valid_BL), pictures)], dim=1)
    return cosines, sines, whole_BS[:, None, None]


def _run(self: Any, block: Any, *given: Any) -> Any:
    if torch.is_grad_enabled() and self.gradient_checkpointing:
        return self._gradient_checkpointing_func(block, *given)
    return block(*given)
