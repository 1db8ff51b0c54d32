"""Weights split over the ranks: each holds its part of every block, and gathers a block whole only while it runs.

PyTorch's FSDP2 does the work (`fully_shard`, block by block). What is ours is how a model comes to lie like that: the
first rank alone has its weights, one after another goes out to all. Splitting changes where a weight lies, never its
value; gradients arrive as sums over ranks, which is what `Learner` takes them for.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.blocks import blocks
from fewstep.backbones.meta_copy import (
    buffer_copies,
    cast_copy,
    materialise,
    meta_copy,
)
from fewstep.lora.factors import Factors, merged
from fewstep.runtime.errors import RecipeError
from fewstep.runtime.parallel import (
    Ranks,
    local_shard,
    local_shard_of,
)

Sharding = Literal["off", "full", "hybrid"]

SHARD_AXIS = (
    "fsdp"  # the axis of a mesh that splits. peft takes weights split along any other name for tensor parallel ones
)


class Placement(Protocol):
    """How the weights of a run lie on its ranks."""

    def model(self, load: Callable[[torch.device], Backbone], device: torch.device) -> Backbone:
        """The model that is distilled, as `frozen` takes its transformer, from a loader that is told where to."""
        ...

    def frozen(self, transformer: nn.Module) -> nn.Module:
        """A model that nobody trains."""
        ...

    def masters(self, transformer: nn.Module, updates: Mapping[str, Factors]) -> nn.Module:
        """A copy in fp32, with these updates merged: steps of 1e-6 are lost in bf16 weights."""
        ...

    def bare(self, transformer: nn.Module) -> nn.Module:
        """What further models of this shape are, on ranks that load none."""
        ...

    def loaded(self, load: Callable[[torch.device], nn.Module], bare: nn.Module, device: torch.device) -> nn.Module:
        """A further model as `frozen` takes it, from a loader that is told where to."""
        ...


class Replicated:
    """Everything on every rank."""

    def model(self, load: Callable[[torch.device], Backbone], device: torch.device) -> Backbone:
        return load(device)

    def frozen(self, transformer: nn.Module) -> nn.Module:
        return transformer.requires_grad_(False)

    def masters(self, transformer: nn.Module, updates: Mapping[str, Factors]) -> nn.Module:
        """Tensor by tensor, without a bf16 copy on the way."""
        masters: dict[int, object] = {
            id(p): nn.Parameter(cast_copy(p, torch.float32)) for p in transformer.parameters()
        }
        made = copy.deepcopy(transformer, masters | buffer_copies(transformer, torch.float32))
        with torch.no_grad():
            for module, update in updates.items():
                weight = made.get_parameter(f"{module}.weight")
                weight.copy_(merged(weight, update, module))
        return made

    def bare(self, transformer: nn.Module) -> nn.Module:
        return transformer

    def loaded(self, load: Callable[[torch.device], nn.Module], bare: nn.Module, device: torch.device) -> nn.Module:
        return load(device)


REPLICATED = Replicated()


@dataclass(frozen=True)
class Sharded:
    """Over `mesh`: its last axis splits, a first of two copies (HSDP). Of the models it is given only the first rank's
    must hold weights; other ranks' may be hollow (parameters on the meta device).

    compute: dtype that weights which learn are gathered in; None is their own.
    """

    mesh: DeviceMesh
    ranks: Ranks
    device: torch.device
    compute: torch.dtype | None = None

    def model(self, load: Callable[[torch.device], Backbone], device: torch.device) -> Backbone:
        """The first rank alone opens the folder, in CPU memory. Others get the model without weights, and without what
        decodes; a refusal of the first is every rank's."""
        made: list[Backbone] = []

        def without_weights() -> Backbone:
            made.append(load(torch.device("cpu")))
            return made[0].meta_copy()

        others = self.ranks.from_first(without_weights)
        return made[0] if self.ranks.first else others

    def frozen(self, transformer: nn.Module) -> nn.Module:
        # Without gradients copies have nothing to tell each other: each is split on its own.
        mesh = self.mesh[SHARD_AXIS]
        return self._spread(meta_copy(transformer), _values(transformer), mesh, None).requires_grad_(False)

    def masters(self, transformer: nn.Module, updates: Mapping[str, Factors]) -> nn.Module:
        values = _values(transformer)

        def value(name: str) -> Tensor:
            whole, update = cast_copy(values(name), torch.float32), updates.get(name.removesuffix(".weight"))
            return whole if update is None else merged(whole, update, name)

        made = meta_copy(transformer, torch.float32).requires_grad_(True)
        return self._spread(made, value, self.mesh, self.compute)

    def bare(self, transformer: nn.Module) -> nn.Module:
        return meta_copy(transformer)

    def loaded(self, load: Callable[[torch.device], nn.Module], bare: nn.Module, device: torch.device) -> nn.Module:
        """The first rank alone opens the model, in CPU memory; if it refuses, all ranks do."""
        made: list[nn.Module] = []
        self.ranks.from_first(lambda: made.append(load(torch.device("cpu"))))
        return made[0] if self.ranks.first else copy.deepcopy(bare)

    def _spread(
        self, hollow: nn.Module, value: Callable[[str], Tensor], mesh: DeviceMesh, compute: torch.dtype | None
    ) -> nn.Module:
        # Inputs are left alone: times and rotary tables stay fp32, and autocast decides as it does elsewhere.
        policy = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32, cast_forward_inputs=False)
        for module in (*blocks(hollow), hollow):
            # The root too gives its weights back after each forward. It would keep them until a backward pass, and a
            # rollout has none: what was gathered for it would outlive the update that follows.
            fully_shard(module, mesh=mesh, reshard_after_forward=True, mp_policy=policy)
            assert isinstance(module, FSDPModule)
            module.set_gradient_divide_factor(1.0)  # losses are weighted by samples already: sums, not means
            module.set_force_sum_reduction_for_comms(True)
        materialise(hollow, self.device)
        with torch.no_grad():
            for name, parameter in hollow.named_parameters():
                whole = torch.empty(parameter.shape, dtype=parameter.dtype, device=self.device)
                if self.ranks.first:
                    whole.copy_(value(name))
                dist.broadcast(whole, 0)
                local_shard(parameter).copy_(local_shard_of(whole, parameter))
        return hollow


def placement_for(sharding: Sharding, ranks: Ranks, device: torch.device, precision: str) -> Placement:
    """
    Raises:
        RecipeError: machines with other numbers of ranks.
    """
    if sharding == "off" or ranks.world == 1:
        return REPLICATED
    each = ranks.world if sharding == "full" else ranks.per_machine
    if sharding == "hybrid" and any(others != ranks.per_machine for others in ranks.gather(ranks.per_machine)):
        raise RecipeError("run.sharding: hybrid needs as many ranks on each machine; use full, or start as many")
    copies = ranks.world // each
    shape, names = ((copies, each), ("copies", SHARD_AXIS)) if copies > 1 else ((each,), (SHARD_AXIS,))
    mesh = init_device_mesh(device.type, shape, mesh_dim_names=names)
    return Sharded(mesh, ranks, device, torch.bfloat16 if precision == "bf16" else None)


def _values(transformer: nn.Module) -> Callable[[str], Tensor]:
    named = dict(transformer.named_parameters())
    return lambda name: named[name].detach()
