"""Prompts from the shipped grammars: landscapes, portraits, and pictures that carry text.

A prompt is drawn at random from (category, seed, index, attempt) alone. A draw that repeats an earlier prompt of its
set, nearly repeats one, or matches a benchmark's is drawn again. So prompt i is the same for every count above i.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache

from fewstep.data.cases import Case
from fewstep.data.prompts import grammar
from fewstep.data.prompts.dedup import PromptDedup
from fewstep.data.prompts.wording import finished_text
from fewstep.runtime.errors import CaseError
from fewstep.runtime.seeded import seeded_random
from fewstep.runtime.task import PAPER_CATEGORIES

CATEGORIES = PAPER_CATEGORIES["t2i"]
SHARED = ("shared", "writing")
TRIES = 200  # ours: the grammars hold far more prompts than anyone asks for, unless a benchmark excludes them


def prompts_from_grammar(
    category: str,
    count: int,
    seed: int,
    avoid: Sequence[str] = (),
    on_progress: Callable[[int], object] = lambda count: None,
) -> list[Case]:
    """The first `count` cases of this category and seed. `avoid`: prompts of a benchmark.

    Raises:
        CaseError: the grammar has no new prompt left.
    """
    cases = []
    for index, prompt in enumerate(_prompts(category, count, seed, PromptDedup(avoid))):
        source = f"fewstep grammar {grammar_hash(category)}, seed {seed}"
        cases.append(Case(f"{category}-{seed}-{index:06d}", "t2i", prompt, category, source=source))
        on_progress(len(cases))
    return cases


def draw_prompt(category: str, seed: int, index: int, attempt: int = 0) -> str:
    """One prompt, drawn at random."""
    return finished_text(
        grammar_of(category).expand("prompt", seeded_random("prompts", category, seed, index, attempt)).text
    )


@cache
def grammar_hash(category: str) -> str:
    """A short hash of the grammar: the same hash and seed give the same prompts."""
    files = [(grammar.FOLDER / f"{name}.grammar").read_bytes() for name in (*SHARED, category)]
    return hashlib.blake2b(b"\0".join(files), digest_size=3).hexdigest()


@cache
def grammar_of(category: str) -> grammar.Grammar:
    return grammar.load_grammar(*SHARED, category)


def _prompts(category: str, count: int, seed: int, dedup: PromptDedup) -> Iterator[str]:
    for index in range(count):
        draws = (draw_prompt(category, seed, index, attempt) for attempt in range(TRIES))
        prompt = next(filter(dedup.admits, draws), None)
        if prompt is None:
            dropped = ", ".join(f"{n:,} {why}" for why, n in dedup.counts.most_common())
            raise CaseError(
                f"the {category} grammar has no further prompt after {index:,} ({dropped}); ask for fewer, avoid "
                "less, or let an endpoint write them (--endpoint)"
            )
        yield prompt
