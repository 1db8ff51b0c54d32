"""The student that is shipped: an exponential moving average of its weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor

from fewstep.roles.network import Network
from fewstep.runtime.errors import RunError
from fewstep.runtime.parallel import dtensor_like, local_shard_of
from fewstep.train.ema_decay import DEFAULT_WARMUP, decay_at


class EMA:
    """The moving average of a network's weights, starting at the weights of the moment. Decay 0 means no averaging.

    `mean` holds this rank's shards of it, by name, in fp32. The average works element by element, so each rank averages
    its own shards and nothing is exchanged. The decay rises with the updates (`train/ema_decay.py`).

    start_share: the share of the untrained start in the average.
    """

    def __init__(self, network: Network, decay: float, warmup: float = DEFAULT_WARMUP):
        """warmup: c of the decay's rise (`ema_decay.decay_at`)."""
        self.network, self.decay, self.warmup = network, decay, warmup
        self.updates, self.warms_up, self.start_share = 0, True, 1.0
        self.mean = {name: weight.clone() for name, weight in network.local_shards().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Takes one step towards the present weights. Call it after every update of the network."""
        decay = self._decay_at(self.updates)
        # mean <- decay mean + (1 - decay) theta    [exponential moving average]
        torch._foreach_lerp_(list(self.mean.values()), list(self.network.local_shards().values()), 1 - decay)
        self.updates, self.start_share = self.updates + 1, self.start_share * decay

    def start_share_after(self, updates: int) -> float:
        """The share of the untrained start in the average once there were so many updates in all."""
        ahead = range(self.updates, updates)
        return self.start_share * prod(map(self._decay_at, ahead))

    def _decay_at(self, updates: int) -> float:
        return decay_at(self.decay, updates, self.warmup) if self.warms_up else self.decay

    def progress(self) -> dict[str, Any]:
        """What a checkpoint stores beside the mean."""
        return {"updates": self.updates, "warms_up": self.warms_up, "start_share": self.start_share}

    def go_on(self, progress: Mapping[str, Any] | None, updates: int) -> None:
        """Takes over what `progress` returned. None: a checkpoint of a version whose decay was constant. Its run goes
        on with a constant one, as it began, after so many updates."""
        held = progress or {"updates": updates, "warms_up": False, "start_share": self.decay**updates}
        self.updates, self.warms_up, self.start_share = held["updates"], held["warms_up"], held["start_share"]

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
