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
from fewstep.roles.plan import Recomputation
from fewstep.roles.recomputation import BlockRunner, recompute
from fewstep.runtime.device import autocast
from fewstep.runtime.errors import RunError
from fewstep.runtime.parallel import local_shard, local_shard_of
from fewstep.runtime.task import Task


class Network:
    """The network of a student, a critic or a teacher.

    It is either a transformer of its own (`adapters` is None), or a role over a shared transformer: then one adapter is
    on, or none of them if `adapter` is None.
    """

    def __init__(
        self,
        name: str,
        backbone: Backbone,
        transformer: nn.Module,
        adapters: Adapters | None = None,
        adapter: str | None = None,
        precision: str = "fp32",
    ):
        """`recompute_as` says how forwards with gradient run, once it was called."""
        assert adapters is None or adapters.transformer is transformer
        self.name, self.backbone, self.transformer = name, backbone, transformer
        self.adapters, self.adapter, self.precision = adapters, adapter, precision
        # Whether any weight that it runs on is sharded. Then all ranks must run it together.
        self._recomputed: tuple[BlockRunner, Mapping[Task, Recomputation]] | None = None
        self.is_sharded = any(isinstance(weight, DTensor) for weight in transformer.parameters())

    def recompute_as(self, by_task: Mapping[Task, Recomputation]) -> None:
        """From now on, backward passes of each task's batches compute again what `by_task` says."""
        if set(by_task.values()) != {"off"}:
            self._recomputed = recompute(self.transformer, "off"), by_task

    @contextmanager
    def active(self) -> Iterator[None]:
        """This role is on inside; the role that was on before is on again after.

        Hold it during the backward pass as well. Gradient checkpointing runs forwards again inside the backward pass,
        under the role that is on then. Under another role the recomputed activations would be those of another adapter,
        and the gradients would be wrong without any error.
        """
        if self.adapters is None:
            yield
        else:
            with self.adapters.active(self.adapter):
                yield

    def velocity(self, z_BND: Tensor, t_B: Tensor, cond: Conditioning, prefix: Prefix | None = None) -> Tensor:
        """v(z, t | cond) in the shape and dtype of z_BND, under this role, whichever role is on outside.

        prefix: what `prefix` returned for the same conditioning; None computes it in this forward.
        """
        self._choose_recomputation(cond)
        with self.active(), autocast(z_BND.device, self.precision):
            return self.backbone.velocity(self.transformer, z_BND, t_B, cond, prefix)

    def prefix(self, cond: Conditioning) -> Prefix | None:
        """The part of a forward that does not depend on t (keys and values of text and references), under this role's
        present weights. None if the family has no such part."""
        self._choose_recomputation(cond)
        with self.active(), autocast(cond.text_BLC.device, self.precision):
            return self.backbone.prefix(self.transformer, cond)

    def _choose_recomputation(self, cond: Conditioning) -> None:
        if self._recomputed is not None:
            runner, by_task = self._recomputed
            runner.how = by_task[cond.layout.task]

    def bind(self, cond: Conditioning, prefix: Prefix | None = None, *, constant_prefix: bool = False) -> Velocity:
        """The velocity with its conditioning bound, as the objective takes it.

        constant_prefix: the prefix is computed here, under the present weights and without gradient. It then counts as
        a constant: the gradient of a loss lacks the part that flows through text and references.
        """
        if constant_prefix:
            with torch.no_grad():
                prefix = self.prefix(cond)

        def velocity(z_BND: Tensor, t_B: Tensor) -> Tensor:
            return self.velocity(z_BND, t_B, cond, prefix)

        return velocity

    @property
    def has_sharded_parameters(self) -> bool:
        """Whether any weight that this role learns is sharded."""
        return any(isinstance(weight, DTensor) for weight in self.parameters())

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """The weights that this role alone learns. The adapter's name is not part of their names. Empty for a
        teacher."""
        if self.adapters is None:
            own = dict(self.transformer.named_parameters())
        else:
            own = {} if self.adapter is None else self.adapters.parameters(self.adapter)
        return {name: parameter for name, parameter in own.items() if parameter.requires_grad}

    def parameters(self) -> list[nn.Parameter]:
        return list(self.named_parameters().values())

    def state(self) -> dict[str, Tensor]:
        """The learnt weights by name, not copied. Sharded ones are DTensors."""
        return {name: parameter.detach() for name, parameter in self.named_parameters().items()}

    def local_shards(self) -> dict[str, Tensor]:
        """This rank's shard of each learnt weight, not copied."""
        return {name: local_shard(weight) for name, weight in self.state().items()}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Copies weights into this role's parameters.

        state: what `state` returned here, or tensors that are whole on every rank.

        Raises:
            RunError: other names or shapes, so the weights belong to another recipe.
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
