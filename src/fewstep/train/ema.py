"""The student that is shipped: an exponential moving average of its weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from fewstep.roles.network import Network
from fewstep.runtime.errors import RunError
from fewstep.runtime.parallel import dtensor_like, local_shard_of


class EMA:
    """The moving average of a network's weights, starting at the weights of the moment. Decay 0 means no averaging.

    `mean` holds this rank's shards of it, by name, in fp32. The average works element by element, so each rank averages
    its own shards and nothing is exchanged. After n updates decay^n of the untrained start is still in it.
    """

    def __init__(self, network: Network, decay: float):
        self.network, self.decay = network, decay
        self.mean = {name: weight.clone() for name, weight in network.local_shards().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Takes one step towards the present weights. Call it after every update of the network."""
        # mean <- decay mean + (1 - decay) theta    [exponential moving average]
        torch._foreach_lerp_(list(self.mean.values()), list(self.network.local_shards().values()), 1 - self.decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The network has the averaged weights inside, and its own weights again after."""
        own = {name: weight.clone() for name, weight in self.network.state().items()}
        self.network.load_state(self.state())
        try:
            yield
        finally:
            self.network.load_state(own)

    def state(self) -> dict[str, Tensor]:
        """The mean by name, not copied. Where the network's weights are sharded, DTensors placed as those are."""
        return {name: dtensor_like(weight, self.mean[name]) for name, weight in self.network.state().items()}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state` returned, or whole tensors.

        Raises:
            RunError: it is of other weights.
        """
        if state.keys() != self.mean.keys():
            raise RunError("the averaged student is of another recipe. Start a new run folder")
        for name, weight in self.network.state().items():
            self.mean[name].copy_(local_shard_of(state[name], weight))
