"""Random draws, each made from a seed, a name and counters.

A draw does not depend on the draws before it: its generator is made from (seed, name, counters) alone. So a resumed run
draws what the unbroken run would have drawn, and sample number 7 gets the same noise whichever rank works on it. Draws
are made on the CPU, so they do not depend on the device either.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


class NamedRNG:
    """Named draws of one seed. Counters are integers: an iteration, a student step, an update."""

    def __init__(self, seed: int):
        self.seed = seed

    def generator(self, name: str, *counters: int) -> torch.Generator:
        """A CPU generator that depends on the seed, the name and the counters alone."""
        key = repr((self.seed, name, counters)).encode()
        digest = hashlib.blake2b(key, digest_size=8).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)

    def normal(self, shape: Sequence[int], name: str, *counters: int) -> Tensor:
        """Standard normal values, float32, on the CPU."""
        return torch.randn(tuple(shape), generator=self.generator(name, *counters))

    def uniform(self, shape: Sequence[int], name: str, *counters: int) -> Tensor:
        """Values uniform on [0, 1), float32, on the CPU."""
        return torch.rand(tuple(shape), generator=self.generator(name, *counters))

    def normal_per_sample(self, samples: Sequence[int], shape: Sequence[int], name: str, *counters: int) -> Tensor:
        """Row i is the noise of global sample `samples[i]`, the same on any rank and in any batch.

        Returns float32 values on the CPU, of shape (len(samples), *shape).
        """
        return torch.stack([self.normal(shape, name, *counters, sample) for sample in samples])

    def uniform_per_sample(self, samples: Sequence[int], name: str, *counters: int) -> Tensor:
        """One uniform value for each global sample, shape (len(samples),)."""
        return torch.stack([self.uniform((), name, *counters, sample) for sample in samples])
