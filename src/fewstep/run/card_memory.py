"""How much of a GPU's memory a run may use."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

MARGIN = 0.07  # ours, declared: of a GPU's memory, for the CUDA context, libraries and the gaps of the allocator
CONTEXT = 500_000_000  # ours: bytes that this process's own CUDA context may hold already; the margin is for it


@dataclass(frozen=True)
class CardMemory:
    """gigabytes: what a run may use, in GB of 10^9 bytes. taken: what other processes hold beside that, in GB; 0 where
    it is too little to be told from this process's own context."""

    gigabytes: float
    taken: float = 0.0

    def __str__(self) -> str:
        others = f" and the {self.taken:.1f} GB that other processes hold" if self.taken else ""
        return f"{self.gigabytes:g} GB (this GPU's memory less {MARGIN:.0%}{others})"


def card_memory(device: torch.device) -> CardMemory | None:
    """The memory of a device that a run may use; None if it is not known."""
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    return memory_left(total, free, torch.cuda.memory_reserved(device))


def memory_left(total: int, free: int, reserved: int) -> CardMemory:
    """What is left for this process of a card that others may use too.

    Args:
        total, free: bytes of the card, as its driver counts them.
        reserved: bytes that this process's allocator holds; they are not free and are no other process's.
    """
    others = total - free - reserved - CONTEXT
    taken = others if others > CONTEXT else 0
    return CardMemory(max(0, int((total * (1 - MARGIN) - taken) / 1e9)), taken / 1e9)


def least_memory(cards: Sequence[CardMemory | None]) -> CardMemory | None:
    """The card with least left, of all ranks: one setting serves them all. None if any is not known."""
    known = [card for card in cards if card is not None]
    return min(known, key=lambda card: card.gigabytes) if len(known) == len(cards) else None
