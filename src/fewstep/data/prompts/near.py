"""Texts that are nearly the same, found without comparing each with each.

Two texts are alike as far as their runs of three words overlap (Jaccard). MinHash: the smallest of the hashed runs under
one random order is the same for two texts with just that probability. BANDS groups of ROWS such minima are kept; texts
that share a group are compared in full. At a likeness of .6 a pair is missed once in 5 million, at .5 once in 700.
"""

import hashlib
from collections import defaultdict

import numpy as np

from fewstep.data.prompts.wording import grams, plain

RUN = 3  # words
BANDS, ROWS = 52, 3
NEAR = 0.6  # ours: of 8 words one replaced in the middle leaves .33, of 30 words one replaced leaves .81
PRIME = np.uint64((1 << 61) - 1)
SLOPES, OFFSETS = np.random.Generator(np.random.PCG64(61)).integers(1, 1 << 31, (2, BANDS * ROWS), dtype=np.uint64)


class Collection:
    """Texts that are neither the same nor nearly the same as one another."""

    def __init__(self, near: float = NEAR):
        self.near = near
        self._plain: set[str] = set()
        self._runs: list[frozenset[int]] = []
        self._bands: dict[bytes, list[int]] = defaultdict(list)

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, text: str) -> bool:
        """Takes the text in, unless one like it is there."""
        folded = plain(text)
        if folded in self._plain:
            return False
        runs = _hashed(text)
        keys = _keys(runs)
        rivals = {n for key in keys for n in self._bands.get(key, ())}
        if any(likeness(runs, self._runs[n]) >= self.near for n in rivals):
            return False
        self._plain.add(folded)
        for key in keys:
            self._bands[key].append(len(self._runs))
        self._runs.append(runs)
        return True


def likeness(a: frozenset[int] | set[tuple[str, ...]], b: frozenset[int] | set[tuple[str, ...]]) -> float:
    """The Jaccard overlap of two sets, 0 to 1."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


def _hashed(text: str) -> frozenset[int]:
    """The runs of a text as 32-bit numbers, the same in every process."""
    runs = (" ".join(run).encode() for run in grams(text, RUN))
    return frozenset(int.from_bytes(hashlib.blake2b(run, digest_size=4).digest(), "big") for run in runs)


def _keys(runs: frozenset[int]) -> list[bytes]:
    """One key for each band, its number included."""
    hashed = np.fromiter(runs, dtype=np.uint64, count=len(runs))
    minima = ((hashed[:, None] * SLOPES + OFFSETS) % PRIME).min(axis=0).astype(np.uint64).reshape(BANDS, ROWS)
    return [band.to_bytes(1, "big") + row.tobytes() for band, row in enumerate(minima)]
