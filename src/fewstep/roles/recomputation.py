"""What a block keeps of its forward for its backward, and what it computes again.

    off        everything is kept
    selective  results of large products and of attention are kept; norms, modulation, rotations, activation functions
               and the low-rank half of adapters are computed again from them
    full       a block's inputs alone are kept; its forward runs a second time

Blocks are wrapped by what diffusers offers (`enable_gradient_checkpointing`). Recomputation runs inside backward, so it
must find the role of its forward still on: `Learner.add` holds it. These transformers drop nothing at random, so no
random state is kept either.
"""

from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

Recomputation = Literal["off", "selective", "full"]

NARROW = 8  # ours: an inner width below 1 / 8 of the result's makes a product cheap to repeat and dear to keep
_ATEN = torch.ops.aten
_PRODUCTS = {_ATEN.mm.default: (0, 1), _ATEN.addmm.default: (1, 2), _ATEN.bmm.default: (0, 1)}  # places of the factors
_ATTENTION = {
    _ATEN._scaled_dot_product_flash_attention.default,
    _ATEN._scaled_dot_product_flash_attention_for_cpu.default,
    _ATEN._scaled_dot_product_efficient_attention.default,
    _ATEN._scaled_dot_product_cudnn_attention.default,
}


def recompute(transformer: nn.Module, how: Recomputation) -> None:
    """From now on, in forwards with gradient. Velocities and gradients stay what they are."""
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
