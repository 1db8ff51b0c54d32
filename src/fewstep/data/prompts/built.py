"""Prompts from the shipped grammars: landscapes, portraits, and pictures that carry text.

What a prompt says is drawn by lot from (category, seed, index, try) alone. A draw that repeats an earlier prompt of its
set, nearly repeats it, or is a benchmark's, is drawn again, so prompt i is the same for every count above i.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache

from fewstep.data.cases import Case
from fewstep.data.prompts import grammar
from fewstep.data.prompts.sieve import Sieve
from fewstep.data.prompts.wording import spoken
from fewstep.errors import CaseError
from fewstep.pocket.world import draw_by_lot

CATEGORIES = ("landscape", "portrait", "text")
SHARED = ("shared", "writing")
TRIES = 200  # ours: the grammars have far more to say than anyone asks for, unless a benchmark forbids it


def build(
    category: str, count: int, seed: int, avoid: Sequence[str] = (), seen: Callable[[int], object] = lambda count: None
) -> list[Case]:
    """The first `count` cases of this category and seed. `avoid`: prompts of a benchmark.

    Raises:
        CaseError: the grammar has nothing left to say.
    """
    cases = []
    for index, prompt in enumerate(_prompts(category, count, seed, Sieve(avoid))):
        source = f"fewstep grammar {mark(category)}, seed {seed}"
        cases.append(Case(f"{category}-{seed}-{index:06d}", "t2i", prompt, category, source=source))
        seen(len(cases))
    return cases


def draw(category: str, seed: int, index: int, attempt: int = 0) -> str:
    """One prompt, by lot."""
    return spoken(grammar_of(category).speak("prompt", draw_by_lot("prompts", category, seed, index, attempt)).text)


@cache
def mark(category: str) -> str:
    """A short hash of the grammar: prompts of one mark and seed are the same prompts."""
    files = [(grammar.FOLDER / f"{name}.grammar").read_bytes() for name in (*SHARED, category)]
    return hashlib.blake2b(b"\0".join(files), digest_size=3).hexdigest()


@cache
def grammar_of(category: str) -> grammar.Grammar:
    return grammar.load(*SHARED, category)


def _prompts(category: str, count: int, seed: int, sieve: Sieve) -> Iterator[str]:
    for index in range(count):
        draws = (draw(category, seed, index, attempt) for attempt in range(TRIES))
        prompt = next(filter(sieve.admits, draws), None)
        if prompt is None:
            dropped = ", ".join(f"{n:,} {why}" for why, n in sieve.counts.most_common())
            raise CaseError(
                f"the {category} grammar has no further prompt after {index:,} ({dropped}); ask for fewer, avoid "
                "less, or let an endpoint write them (--endpoint)"
            )
        yield prompt
