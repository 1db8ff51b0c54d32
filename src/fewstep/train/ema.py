"""The student that is shipped: an exponential moving average of its weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from fewstep.roles.network import Network
from fewstep.runtime.errors import RunError
from fewstep.runtime.parallel import dtensor_like, local_shard_of


class EMA:
    """mean <- decay mean + (1 - decay) weights after every update, from the first weights on. Decay 0 is no average.
    `mean` is this rank's part of it."""

    def __init__(self, network: Network, decay: float):
        self.network, self.decay = network, decay
        self.mean = {name: weight.clone() for name, weight in network.local_shards().items()}

    @torch.no_grad()
    def update(self) -> None:
        torch._foreach_lerp_(list(self.mean.values()), list(self.network.local_shards().values()), 1 - self.decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The network has the averaged weights inside, and its own again after."""
        own = {name: weight.clone() for name, weight in self.network.state().items()}
        self.network.load_state(self.state())
        try:
            yield
        finally:
            self.network.load_state(own)

    def state(self) -> dict[str, Tensor]:
        """The mean by name, not copied; a split one as it lies on the ranks."""
        return {name: dtensor_like(weight, self.mean[name]) for name, weight in self.network.state().items()}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        if state.keys() != self.mean.keys():
            raise RunError("the averaged student is of another recipe. Start a new run folder")
        for name, weight in self.network.state().items():
            self.mean[name].copy_(local_shard_of(state[name], weight))
