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

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from fewstep.roles.compiled_forward import CompiledForward
from fewstep.roles.plan import Recomputation

NARROW = 8  # ours: a product whose inner width is below 1 / 8 of its result's width is cheap to repeat, costly to keep
_ATEN = torch.ops.aten
_PRODUCTS = {  # indices of the factors
    _ATEN.mm.default: (0, 1),
    _ATEN.addmm.default: (1, 2),
    _ATEN.bmm.default: (0, 1),
    _ATEN._scaled_mm.default: (0, 1),
}  # int8's leave their kernel in int32, twice the bytes of bf16 at half its time: they are computed again
_ATTENTION = {
    _ATEN._scaled_dot_product_flash_attention.default,
    _ATEN._scaled_dot_product_flash_attention_for_cpu.default,
    _ATEN._scaled_dot_product_efficient_attention.default,
    _ATEN._scaled_dot_product_cudnn_attention.default,
}


class BlockRunner:
    """Runs the blocks of a transformer in forwards with gradient, as `how` says. `how` may change from forward to
    forward: a backward pass computes again what its own forward left out."""

    def __init__(self, how: Recomputation):
        self.how = how

    def __call__(self, block: nn.Module, *given: Any) -> Any:
        if self.how == "off":
            return block(*given)
        return (_selective if self.how == "selective" else _full)(block, *given)


def recompute(transformer: nn.Module, how: Recomputation) -> BlockRunner:
    """From now on forwards with gradient recompute as `how` says, or as what is returned will say. Velocities and
    gradients keep their values. Roles over one transformer share one runner."""
    for module in transformer.modules():
        if isinstance(held := getattr(module, "_gradient_checkpointing_func", None), BlockRunner):
            held.how = how
            return held
    runner = BlockRunner(how)
    transformer.enable_gradient_checkpointing(gradient_checkpointing_func=runner)  # type: ignore[operator]
    return runner


def _full(block: nn.Module, *given: Any) -> Any:
    return checkpoint(block.__call__, *given, use_reentrant=False, preserve_rng_state=False)


def _selective(block: nn.Module, *given: Any) -> Any:
    compiled = vars(block).get("forward")
    if isinstance(compiled, CompiledForward):
        with compiled.selectively():
            return block(*given)
    return selectively(block.__call__, *given)


def selectively(forward: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """The forward, whose backward pass computes again all but large products and attention."""
    return checkpoint(
        forward, *given, use_reentrant=False, preserve_rng_state=False, context_fn=_keeping_what_is_dear, **named
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
