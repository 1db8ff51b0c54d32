"""How weights are placed on the ranks: replicated, or sharded.

Sharded means that each rank holds a shard of every block, and gathers a block only while the block runs. PyTorch's
FSDP2 does this (`fully_shard`, block by block). This module adds how a model gets there: only the first rank has the
weights, and broadcasts them one after another, so no other rank ever holds the whole model.

Sharding changes where a weight is, never its value. Gradients arrive as sums over ranks, not as means, and
`RoleOptimizer` relies on that.
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
from fewstep.roles.masters import compute_as_stored
from fewstep.runtime.errors import RecipeError
from fewstep.runtime.parallel import (
    Ranks,
    local_shard,
    local_shard_of,
)

Sharding = Literal["off", "full", "hybrid"]

SHARD_AXIS = (
    "fsdp"  # the mesh axis that shards. peft takes weights sharded along any other name for tensor parallel ones
)


class Placement(Protocol):
    """How the weights of a run are placed on its ranks."""

    def model(self, load: Callable[[torch.device], Backbone], device: torch.device) -> Backbone:
        """The model that is distilled, ready for `frozen`. load: loads it onto a given device."""
        ...

    def base(self, transformer: nn.Module) -> nn.Module:
        """The transformer that student, critic and LoRA teachers share, placed on the ranks."""
        ...

    def frozen(self, transformer: nn.Module) -> nn.Module:
        """A transformer that is not trained, placed on the ranks."""
        ...

    def masters(self, transformer: nn.Module, updates: Mapping[str, Factors]) -> nn.Module:
        """A copy in fp32 to be trained, with these updates merged. In bf16 weights, steps of 1e-6 would be lost."""
        ...

    def bare(self, transformer: nn.Module) -> nn.Module:
        """A model of this shape for ranks that do not load further models themselves (`loaded`)."""
        ...

    def loaded(self, load: Callable[[torch.device], nn.Module], bare: nn.Module, device: torch.device) -> nn.Module:
        """A further model, ready for `frozen`. load: loads it onto a given device. bare: what `bare` returned."""
        ...


class Replicated:
    """Every rank holds all weights."""

    def model(self, load: Callable[[torch.device], Backbone], device: torch.device) -> Backbone:
        return load(device)

    def base(self, transformer: nn.Module) -> nn.Module:
        return self.frozen(transformer)

    def frozen(self, transformer: nn.Module) -> nn.Module:
        return transformer.requires_grad_(False)

    def masters(self, transformer: nn.Module, updates: Mapping[str, Factors]) -> nn.Module:
        """Copies tensor by tensor, without an intermediate bf16 copy."""
        masters: dict[int, object] = {
            id(p): nn.Parameter(cast_copy(p, torch.float32)) for p in transformer.parameters()
        }
        made = copy.deepcopy(transformer, masters | buffer_copies(transformer, torch.float32))
        compute_as_stored(made)
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
    """Weights are sharded over `mesh`. Of the models that are given, only the first rank's needs to hold weights; on
    other ranks parameters may be on the meta device.

    Args:
        mesh: its last axis shards. A mesh of two axes has copies along the first one (HSDP).
        compute: the dtype in which trained weights are gathered; None means their own.
    """

    mesh: DeviceMesh
    ranks: Ranks
    device: torch.device
    compute: torch.dtype | None = None

    def model(self, load: Callable[[torch.device], Backbone], device: torch.device) -> Backbone:
        """Only the first rank opens the folder, in CPU memory. The others get the model without weights and without a
        decoder. If the first rank fails, all ranks raise the same error."""
        made: list[Backbone] = []

        def without_weights() -> Backbone:
            made.append(load(torch.device("cpu")))
            return made[0].meta_copy()

        others = self.ranks.from_first(without_weights)
        return made[0] if self.ranks.first else others

    def base(self, transformer: nn.Module) -> nn.Module:
        return self.frozen(transformer)

    def frozen(self, transformer: nn.Module) -> nn.Module:
        # Copies of frozen weights exchange no gradients, so each copy is sharded on its own.
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
        """Only the first rank opens the model, in CPU memory. If it fails, all ranks raise the same error."""
        made: list[nn.Module] = []
        self.ranks.from_first(lambda: made.append(load(torch.device("cpu"))))
        return made[0] if self.ranks.first else copy.deepcopy(bare)

    def _spread(
        self, hollow: nn.Module, value: Callable[[str], Tensor], mesh: DeviceMesh, compute: torch.dtype | None
    ) -> nn.Module:
        # Inputs are not cast: times and rotary tables stay fp32, and autocast decides as it does without sharding.
        policy = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32, cast_forward_inputs=False)
        for module in (*blocks(hollow), hollow):
            # The root module, too, frees its gathered weights after each forward. By default it keeps them until a
            # backward pass. A rollout has none, so after the next update it would run on the weights of before.
            fully_shard(module, mesh=mesh, reshard_after_forward=True, mp_policy=policy)
            assert isinstance(module, FSDPModule)
            # FSDP's default is the mean over ranks. Losses here are weighted by samples already, and ranks may hold
            # unequal numbers of samples, so gradients must be summed. A mean would be too small by the number of ranks.
            module.set_gradient_divide_factor(1.0)
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
    """The placement that `run.sharding` asks for. One rank alone always replicates.

    Raises:
        RecipeError: hybrid sharding on machines with unequal numbers of ranks.
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
