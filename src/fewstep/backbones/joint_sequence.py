"""The forward of Qwen-Image 2.1 for a sequence whose layout is known on the host.

The stock forward reads the layout of its sequence from a mask on the device. For that the host waits for the device
several times in each call (`repeat_interleave`, indexing by masks, a sum as a Python number, the list of segments). A
GPU then runs out of queued work. Our layouts are values on the host already. So here the sequence is assembled from its
pieces. What depends on the layout alone is computed once for each layout and kept: rotary positions, segments, and
which tokens are the target's. With a cached prefix only the target's tokens are computed.

The stock blocks are used, and they run under the stock module's own call, so hooks on it still run. Contract tests
compare the results with those of the stock forward.

One thing is done otherwise. The target's rotary frame is the number of text positions before it. The stock forward
counts padding among them, so it answers otherwise for a short text beside a longer one than for the short text alone
(the velocity of Qwen-Image 2.1 differs by 1.6 to 9 %). Nobody samples a student like that, so it must not be trained
like that. Here each sample's target stands after the sample's own text (`row_rotary`).

Shapes: B batch, L text positions, C text channels, S tokens of the joint sequence, D latent channels, E half the
channels of a head.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from types import MethodType
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from fewstep.backbones.layout import Layout, TokenGrid
from fewstep.backbones.stock import QWEN_IMAGE_21_MODULE, QwenImage21KVCache, QwenImage21Rope
from fewstep.runtime.device import to_device

CACHED_LAYOUTS = (
    64  # layouts, on the device: one for each length of texts. 2 MB at 1024 x 1024 px, 34 with 3 references at 2048
)

STOCK_ROTARY = QWEN_IMAGE_21_MODULE.apply_rotary_emb_qwen

Segment = tuple[int, int, bool]  # first token, end, whether it is text


@dataclass(frozen=True)
class JointSequence:
    """What depends on the layout of a sequence alone.

    The sequence is text with the references in their slots, then the target.

    Args:
        cuts: the text positions at which references are inserted, with 0 in front and the text's length at the end.
            Between two neighbours is a piece of text.
        segments: the pieces of text and the references, up to the target.
        prefix_tokens: the number of tokens in front of the target.
        target_frame: the target's position on the rotary embedding's first axis.
        is_target_S: True at the target's tokens.
        rotary_SE: the rotary embedding of each token, complex.
    """

    cuts: tuple[int, ...]
    segments: tuple[Segment, ...]
    prefix_tokens: int
    target_frame: int
    is_target_S: Tensor
    rotary_SE: Tensor


@lru_cache(maxsize=CACHED_LAYOUTS)
def build_joint_sequence(
    layout: Layout, texts: int, target: TokenGrid, theta: int, axes: tuple[int, ...], device: torch.device
) -> JointSequence:
    """The sequence of `texts` text positions, the references of the layout, and a target.

    Args:
        target: rows and columns of its tokens; (0, 0) means that there is none, to compute the prefix alone.
        theta, axes: the parameters of the rotary embedding.
    """
    assert len(layout.slots) == len(layout.references), "a layout with references says where their slots are"
    cuts = (0, *layout.slots, texts)
    is_image: list[bool] = []
    segments: list[Segment] = []
    for number, (start, end) in enumerate(pairwise(cuts)):
        _append(is_image, segments, end - start, True)
        if number < len(layout.references):
            _append(is_image, segments, math.prod(layout.references[number]), False)
    prefix_tokens, target_tokens = len(is_image), math.prod(target)
    is_image += [True] * target_tokens
    shapes = [(1, *grid) for grid in (*layout.references, target) if math.prod(grid)]
    rotary_SE = _rope(theta, axes)(shapes, torch.tensor(is_image), torch.device("cpu"))
    is_target_S = torch.arange(len(is_image)) >= prefix_tokens
    frame = texts + sum(max(grid) for grid in layout.references)  # as the stock embedding advances
    return JointSequence(
        cuts, tuple(segments), prefix_tokens, frame, to_device(is_target_S, device), to_device(rotary_SE, device)
    )


def _append(is_image: list[bool], segments: list[Segment], tokens: int, is_text: bool) -> None:
    if tokens:
        segments.append((len(is_image), len(is_image) + tokens, is_text))
        is_image += [not is_text] * tokens


@lru_cache
def _rope(theta: int, axes: tuple[int, ...]) -> QwenImage21Rope:
    """The stock rotary embedding, with its tables on the CPU."""
    return QwenImage21Rope(theta, list(axes))


def forget_layouts(transformer: nn.Module) -> None:
    """Drops the sequences that were made before. The tables that they are made from stay on the CPU, and are there
    afterwards."""
    build_joint_sequence.cache_clear()
    positions = getattr(transformer, "pos_embed", None)
    if isinstance(positions, QwenImage21Rope):
        _rope(positions.theta, tuple(positions.axes_dim))


def row_rotary(joint: JointSequence, lengths_B: Sequence[int], theta: int, axes: tuple[int, ...]) -> Tensor:
    """The rotary embedding of a batch of texts of these lengths: (S, E) if all are as long as the sequence's, else
    (B, S, E) with each sample's target right after its own text.

    Texts are padded behind their last position, so the tokens before the target keep their positions, and the target
    keeps its rows and columns. Only its frame moves, on the first axis.
    """
    texts = joint.cuts[-1]
    if all(length == texts for length in lengths_B):
        return joint.rotary_SE
    frames_PA = _rope(theta, axes).freqs[0]  # by position; A is the first axis's part of E
    frames_B = torch.tensor([joint.target_frame - (texts - length) for length in lengths_B])
    rotary_BSE = joint.rotary_SE.repeat(len(lengths_B), 1, 1)
    shifted_BA = to_device(frames_PA.cpu()[frames_B], rotary_BSE.device)
    rotary_BSE[:, joint.prefix_tokens :, : shifted_BA.shape[1]] = shifted_BA[:, None]
    return rotary_BSE


def apply_rotary(x_BSHD: Tensor, rotary: Any, use_real: bool = True, use_real_unbind_dim: int = -1) -> Tensor:
    """The stock function, which also takes one rotary embedding for each sample, (B, S, E)."""
    if use_real or rotary.ndim == 2:
        return cast(Tensor, STOCK_ROTARY(x_BSHD, rotary, use_real, use_real_unbind_dim))
    turned = torch.view_as_complex(x_BSHD.float().unflatten(-1, (-1, 2))) * rotary[:, :, None]
    return torch.view_as_real(turned).flatten(3).type_as(x_BSHD)


QWEN_IMAGE_21_MODULE.apply_rotary_emb_qwen = apply_rotary  # the stock processors look it up there


def forward_joint(
    transformer: Any,
    target_BND: Tensor,
    references_BRD: Tensor | None,
    text_BLC: Tensor,
    mask_BL: Tensor | None,
    lengths_B: Sequence[int],
    t_B: Tensor,
    layout: Layout,
    target: TokenGrid,
    cache: QwenImage21KVCache | None = None,
    mode: Literal["extract", "cached"] | None = None,
) -> Tensor:
    """The transformer's output at the target's tokens, (B, N, D). N is 0 if only the cache is wanted.

    Args:
        mask_BL: True at valid text positions; None if no text is padded.
        lengths_B: the number of valid text positions of each sample, on the host.
        layout: the references, and where their slots are.
        target: rows and columns of the target's tokens.
        cache, mode: "extract" writes keys and values of text and references into the cache; "cached" reads them.
    """
    theta, axes = transformer.pos_embed.theta, tuple(transformer.pos_embed.axes_dim)
    joint = build_joint_sequence(layout, text_BLC.shape[1], target, theta, axes, target_BND.device)
    _install(transformer)
    answer_BSD = transformer(
        hidden_states=target_BND,
        encoder_hidden_states=text_BLC,
        timestep=t_B,
        references_BRD=references_BRD,
        mask_BL=mask_BL,
        joint=joint,
        rotary=row_rotary(joint, lengths_B, theta, axes),
        kv_cache=cache,
        kv_cache_mode=mode,
    )
    return answer_BSD[:, answer_BSD.shape[1] - target_BND.shape[1] :]


def _install(transformer: Any) -> None:
    """Gives this module a forward that accepts both kinds of call. A deep copy of the module gets its own."""
    if "forward" not in vars(transformer):
        transformer.forward = MethodType(_dispatch, transformer)


def _dispatch(self: Any, *given: Any, joint: JointSequence | None = None, **named: Any) -> Any:
    """Calls the stock forward for stock arguments, and ours if a joint sequence is given."""
    return type(self).forward(self, *given, **named) if joint is None else _forward(self, joint, **named)


def _forward(
    self: Any,
    joint: JointSequence,
    rotary: Tensor,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor,
    timestep: Tensor,
    references_BRD: Tensor | None,
    mask_BL: Tensor | None,
    kv_cache: QwenImage21KVCache | None,
    kv_cache_mode: str | None,
) -> Tensor:
    """The same computation as the stock forward, without making the host wait for the device."""
    cached, causal = kv_cache_mode == "cached", self.config.causal_condition
    if cached:
        x_BSD, first = self.img_in(hidden_states), joint.prefix_tokens
    else:
        x_BSD, first = _together(self, joint, hidden_states, references_BRD, encoder_hidden_states), 0
    t = timestep.to(x_BSD.dtype)
    if causal:  # one more row with t = 0: text and references are modulated by it, so they do not depend on t
        t = torch.cat([t, t.new_zeros(1)])
    temb = self.time_text_embed(t, x_BSD)
    modulation, is_target_S = self.modulation(temb), joint.is_target_S[first:] if causal else None
    valid_BS = None if mask_BL is None else _valid(joint, mask_BL)
    block_inputs = (
        modulation,
        rotary[..., first:, :],
        valid_BS[:, None, None, :] if cached and valid_BS is not None else None,
        is_target_S,
    )
    written = slice(None) if kv_cache_mode == "extract" else None  # with a number in it, each would be compiled anew
    segments = None if cached else list(joint.segments)
    for number, block in enumerate(self.transformer_blocks):
        layer = None if kv_cache is None else kv_cache.get_layer(number)
        given = (x_BSD, *block_inputs, layer, kv_cache_mode, written, segments, None if cached else valid_BS)
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            x_BSD = self._gradient_checkpointing_func(block, *given)
        else:
            x_BSD = block(*given)
    if kv_cache is not None and written is not None:
        for layer in kv_cache.layer_caches:
            layer.store(*(kept[:, : joint.prefix_tokens] for kept in layer.get()))
    return self.proj_out(self.norm_out(x_BSD, temb, is_target_S))


def _together(
    self: Any, joint: JointSequence, target_BND: Tensor, references_BRD: Tensor | None, text_BLC: Tensor
) -> Tensor:
    """The embedded sequence: text with the references in their slots, then the target. (B, S, width)."""
    text = self.txt_in(text_BLC)
    if references_BRD is None:
        return torch.cat([text, self.img_in(target_BND)], dim=1)
    images = self.img_in(torch.cat([references_BRD, target_BND], dim=1))
    return torch.cat(_alternating(joint, text, images), dim=1)


def _alternating(joint: JointSequence, text: Tensor, images: Tensor) -> list[Tensor]:
    """The pieces of the sequence, cut along the second axis: text up to a cut, the reference inserted there, and so on.
    The last piece is the rest of `images`, which is the target."""
    references = [end - start for start, end, is_text in joint.segments if not is_text]
    pieces, done = [], 0
    for number, (start, end) in enumerate(pairwise(joint.cuts)):
        tokens = references[number] if number < len(references) else images.shape[1] - done
        pieces += [text[:, start:end], images[:, done : done + tokens]]
        done += tokens
    return pieces


def _valid(joint: JointSequence, mask_BL: Tensor) -> Tensor:
    """Which keys of the sequence are valid, (B, S): all except padded text."""
    images = mask_BL.new_ones(len(mask_BL), len(joint.is_target_S) - mask_BL.shape[1])
    return torch.cat(_alternating(joint, mask_BL, images), dim=1)
