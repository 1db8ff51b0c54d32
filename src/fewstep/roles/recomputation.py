"""Which activations a block keeps for its backward pass, and which it computes again (gradient checkpointing, arXiv
1604.06174).

    off        everything is kept
    selective  results of large products and of attention are kept; norms, modulation, rotations, activation functions
               and the low-rank half of adapters are computed again from them
    full       only a block's inputs are kept; its forward runs a second time

diffusers wraps the blocks (`enable_gradient_checkpointing`). Recomputation runs inside the backward pass, and uses the
role that is on then. That must be the role of the forward: `RoleOptimizer.backward` holds it. Otherwise the activations
of another adapter would be recomputed, and gradients would be wrong without any error. These transformers have no
dropout, so no random state is kept either.
"""

from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

Recomputation = Literal["off", "selective", "full"]

NARROW = 8  # ours: a product whose inner width is below 1 / 8 of its result's width is cheap to repeat, costly to keep
_ATEN = torch.ops.aten
_PRODUCTS = {_ATEN.mm.default: (0, 1), _ATEN.addmm.default: (1, 2), _ATEN.bmm.default: (0, 1)}  # indices of the factors
_ATTENTION = {
    _ATEN._scaled_dot_product_flash_attention.default,
    _ATEN._scaled_dot_product_flash_attention_for_cpu.default,
    _ATEN._scaled_dot_product_efficient_attention.default,
    _ATEN._scaled_dot_product_cudnn_attention.default,
}


def recompute(transformer: nn.Module, how: Recomputation) -> None:
    """From now on forwards with gradient recompute as `how` says. Velocities and gradients keep their values."""
    if how != "off":
        block = _selective if how == "selective" else _full
        transformer.enable_gradient_checkpointing(gradient_checkpointing_func=block)  # type: ignore[operator]


def _full(block: nn.Module, *given: Any) -> Any:
    return checkpoint(block.__call__, *given, use_reentrant=False, preserve_rng_state=False)


def _selective(block: nn.Module, *given: Any) -> Any:
    return checkpoint(
        block.__call__, *given, use_reentrant=False, preserve_rng_state=False, context_fn=_keeping_what_is_dear
    )


def _keeping_what_is_dear() -> Any:
    return create_selective_checkpoint_contexts(_policy)


def _policy(ctx: object, operation: Any, *given: Any, **named: Any) -> CheckpointPolicy:
    if operation in _ATTENTION:
        return CheckpointPolicy.MUST_SAVE
    if operation in _PRODUCTS:
        left, right = (given[place] for place in _PRODUCTS[operation])
        if left.shape[-1] * NARROW >= right.shape[-1]:
            return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE
