"""Compilation of transformer blocks by torch: operations between matrix products are fused; the products stay as they
are.

Blocks are compiled one by one, and of each block the forward alone. So hooks on a block (such as those that gather
sharded weights) run outside of the compiled code, and modules and parameters keep their names. Blocks of one class
share what was compiled for one of them.

torch guards each compiled forward by what it read: which adapters are on (the one list that all LoRA layers share),
whether gradients are recorded, the precision, which prefix is given, how many references there are. So each role gets
code of its own at its first forward, and a later switch of roles finds that code again. A size that is met a second
time with another value becomes dynamic. A run over many lengths of text therefore compiles twice, not once for each.

Recomputation of whole blocks stays outside: the compiled forward runs a second time. Selective recomputation is inside:
the checkpointed forward is what is compiled (`roles/compiled_forward.py`). Without it a compiled block keeps what its
partitioner finds dear, which is more than products and attention.
"""

import logging
import os
import shutil
import sys
import sysconfig
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._triton import has_triton

from fewstep.backbones.blocks import blocks
from fewstep.roles.compiled_forward import CompiledForward, Forward
from fewstep.roles.recomputation import selectively
from fewstep.runtime.errors import EnvironmentRefused

Backend = Callable[..., Any]

# Variants of one block: roles, with and without gradient, kinds of prefix, numbers of references. torch raises beyond.
VARIANTS = 256


def compile_blocks(transformer: nn.Module, backend: str | Backend = "inductor") -> None:
    """From now on the transformer's blocks run compiled. Each variant is compiled when it is first met. A second call
    changes nothing.

    backend: a backend of torch.compile. Tests use one that traces and guards in the same way, and generates no code.
    """
    # Rotary positions are complex numbers, which inductor leaves to torch's own kernels.
    warnings.filterwarnings("ignore", message="Torchinductor does not support code generation for complex")
    # The tracer reads .grad of a block's inputs. With sharded weights these are not leaves.
    warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
    # The tracer makes an instance of each autograd function (rounded weights have two), which torch itself discourages.
    warnings.filterwarnings("ignore", message=".*should not be instantiated")
    # torch warns of operations in place inside what is recomputed. Blocks have none: the tests compare gradients.
    logging.getLogger("torch._higher_order_ops.wrap").addFilter(_unless_of_choice)
    # A prefix is stored by its own forward; a backward pass need not store it again.
    torch._dynamo.config.skip_fwd_side_effects_in_bwd_under_checkpoint = True
    torch._dynamo.config.recompile_limit = VARIANTS
    for block in blocks(transformer):
        if "forward" not in vars(block):
            block.forward = _compiled(block.forward, backend)  # type: ignore[method-assign]


def _unless_of_choice(record: logging.LogRecord) -> bool:
    return "context_fn" not in record.getMessage()


def _compiled(forward: Forward, backend: str | Backend) -> CompiledForward:
    def selective(*given: Any, **named: Any) -> Any:
        return selectively(forward, *given, **named)

    plain, chosen = (torch.compile(each, backend=backend, fullgraph=True) for each in (forward, selective))
    return CompiledForward(plain, chosen)


def refuse_without_compiler(
    device: torch.device, asked: str = "run.compile is true", instead: str = "set run.compile: false"
) -> None:
    """
    Args:
        asked: who asks for compiled blocks.
        instead: what else to do, in the imperative.

    Raises:
        EnvironmentRefused: torch cannot compile for this device here, because what it calls is not installed.
    """
    lacks = (_lacks_for_gpu if device.type == "cuda" else _lacks_for_cpu)() or _lacks_headers()
    if lacks:
        raise EnvironmentRefused(f"{asked}, but {lacks}, or {instead}")


def _lacks_for_gpu() -> str | None:
    if not has_triton():
        return (
            "torch compiles for GPUs through triton, which does not work here. "
            "Install triton (torch's CUDA builds for Linux bring it)"
        )
    if not any(map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))):
        return "triton calls a C compiler, and there is none here. Install gcc"
    return None


def _lacks_for_cpu() -> str | None:
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler):
        return None
    return f"torch compiles for CPUs with {compiler}, which is not here. Install it, name another in the variable CXX"


def _lacks_headers() -> str | None:
    if (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return None
    return "what torch compiles includes Python.h, which is not here. Install Python's headers (python3-dev)"
