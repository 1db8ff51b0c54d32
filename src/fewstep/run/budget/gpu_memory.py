"""The memory of a GPU, as a plan counts it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class GPUMemory:
    """The memory of a GPU. gigabytes: as cards are sold.

    A run may use 10^9 bytes of each gigabyte. What the card has beyond that (7 % of 2^30) is left to the CUDA context,
    to libraries, and to gaps that the allocator cannot fill. This is declared, not measured.
    """

    gigabytes: float

    @property
    def bytes(self) -> int:
        return round(self.gigabytes * 10**9)
