"""One role's network: a transformer, and which adapter over it is on."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from fewstep.backbones.backbone import Backbone, Prefix
from fewstep.backbones.conditioning import Conditioning
from fewstep.flow.solver import Velocity
from fewstep.roles.adapters import Adapters
from fewstep.runtime.device import autocast
from fewstep.runtime.errors import RunError
from fewstep.runtime.parallel import local_shard, local_shard_of


class Network:
    """Student, critic or teacher. Either a transformer of its own (`adapters` is None), or a role over a shared one:
    one adapter on, or, with adapter None, all of them off."""

    def __init__(
        self,
        name: str,
        backbone: Backbone,
        transformer: nn.Module,
        adapters: Adapters | None = None,
        adapter: str | None = None,
        precision: str = "fp32",
    ):
        assert adapters is None or adapters.transformer is transformer
        self.name, self.backbone, self.transformer = name, backbone, transformer
        self.adapters, self.adapter, self.precision = adapters, adapter, precision
        # Whether weights that it runs on lie in parts on the ranks: then all of them must run it together.
        self.is_sharded = any(isinstance(weight, DTensor) for weight in transformer.parameters())

    @contextmanager
    def active(self) -> Iterator[None]:
        """This role is on inside, and what was on before is back on after. Hold it from a forward with gradient through
        its backward: recomputed activations (gradient checkpointing) run under the role that is on then."""
        if self.adapters is None:
            yield
        else:
            with self.adapters.active(self.adapter):
                yield

    def velocity(self, z_BND: Tensor, t_B: Tensor, cond: Conditioning, prefix: Prefix | None = None) -> Tensor:
        """v(z, t | cond) in z's dtype, under this role whichever is on outside."""
        with self.active(), autocast(z_BND.device, self.precision):
            return self.backbone.velocity(self.transformer, z_BND, t_B, cond, prefix)

    def prefix(self, cond: Conditioning) -> Prefix | None:
        """What does not depend on t, under this role's weights as they are now."""
        with self.active(), autocast(cond.text_BLC.device, self.precision):
            return self.backbone.prefix(self.transformer, cond)

    def bind(self, cond: Conditioning, prefix: Prefix | None = None, *, constant_prefix: bool = False) -> Velocity:
        """The velocity with its conditioning bound, as the objective takes it. constant_prefix: its prefix is made
        here, under the weights as they are, and gets no gradient."""
        if constant_prefix:
            with torch.no_grad():
                prefix = self.prefix(cond)

        def velocity(z_BND: Tensor, t_B: Tensor) -> Tensor:
            return self.velocity(z_BND, t_B, cond, prefix)

        return velocity

    @property
    def has_sharded_parameters(self) -> bool:
        """Whether the weights that this role learns lie in parts."""
        return any(isinstance(weight, DTensor) for weight in self.parameters())

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """What this role alone learns, by name without the adapter's; nothing for a teacher."""
        if self.adapters is None:
            own = dict(self.transformer.named_parameters())
        else:
            own = {} if self.adapter is None else self.adapters.parameters(self.adapter)
        return {name: parameter for name, parameter in own.items() if parameter.requires_grad}

    def parameters(self) -> list[nn.Parameter]:
        return list(self.named_parameters().values())

    def state(self) -> dict[str, Tensor]:
        """The learnt weights by name, not copied; split ones as they lie on the ranks."""
        return {name: parameter.detach() for name, parameter in self.named_parameters().items()}

    def local_shards(self) -> dict[str, Tensor]:
        """What this rank holds of the learnt weights, not copied."""
        return {name: local_shard(weight) for name, weight in self.state().items()}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` returned here, or whole weights.

        Raises:
            RunError: other names or shapes: the weights are of another recipe.
        """
        own = self.named_parameters()
        wrong = sorted(
            n for n in own.keys() | state.keys() if n not in own or n not in state or own[n].shape != state[n].shape
        )
        if wrong:
            raise RunError(
                f"weights of another recipe: the {self.name} and the saved weights differ in {len(wrong)} tensors, "
                f"the first '{wrong[0]}'. Start a new run folder, or restore the recipe this one began with"
            )
        for name, parameter in own.items():
            local_shard(parameter).copy_(local_shard_of(state[name], parameter))
