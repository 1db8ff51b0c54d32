"""How varied a set of prompts is, in figures that do not depend on the size of the set where such figures exist."""

import random
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from fewstep.data.prompts.near_duplicates import NearDuplicates
from fewstep.data.prompts.wording import normalised_text, shingles
from fewstep.data.words import words_of

SAMPLE = 400  # prompts of which all pairs are compared: 79,800 pairs
WINDOW = 500  # words of one window of the moving type-token ratio
SHARED_OPENING = 4  # words


@dataclass(frozen=True)
class PromptDiversity:
    """distinct: share of prompts that are different (case and spacing aside). near: share of these that nearly repeat
    an earlier one (a similarity of at least 0.6). vocabulary: number of different words. type_token: vocabulary over
    all words; it falls with the size of the set. type_token_500: its mean over windows of 500 words, which does not.
    distinct_3: different runs of three words over all of them. overlap: mean similarity (Jaccard of runs of three
    words) of all pairs of a sample; overlap_most: the largest. opening: share of the commonest first four words. words:
    minimum, median, 90th percentile and maximum of words in a prompt."""

    prompts: int
    distinct: float
    near: float
    vocabulary: int
    type_token: float
    type_token_500: float
    distinct_3: float
    overlap: float
    overlap_most: float
    opening: float
    words: tuple[int, int, int, int]


def prompt_diversity(prompts: Sequence[str], seed: int = 0) -> PromptDiversity:
    """The figures of a set of at least two prompts. `seed`: for the sample and the order of the windows."""
    assert len(prompts) > 1, "one prompt has no diversity"
    order = random.Random(seed).sample(range(len(prompts)), len(prompts))
    texts = [words_of(prompts[n]) for n in order]
    flat = [word for text in texts for word in text]
    threes = [run for text in texts for run in zip(text, text[1:], text[2:], strict=False)]
    near, different = NearDuplicates(), list(dict.fromkeys(map(normalised_text, prompts)))
    overlap, overlap_most = _overlap([prompts[n] for n in order[:SAMPLE]])
    lengths = sorted(map(len, texts))
    return PromptDiversity(
        prompts=len(prompts),
        distinct=len(different) / len(prompts),
        near=sum(not near.add(prompt) for prompt in different) / len(different),
        vocabulary=len(set(flat)),
        type_token=len(set(flat)) / max(1, len(flat)),
        type_token_500=_windowed(flat),
        distinct_3=len(set(threes)) / max(1, len(threes)),
        overlap=overlap,
        overlap_most=overlap_most,
        opening=Counter(tuple(text[:SHARED_OPENING]) for text in texts).most_common(1)[0][1] / len(prompts),
        words=(lengths[0], lengths[len(lengths) // 2], lengths[len(lengths) * 9 // 10], lengths[-1]),
    )


def _overlap(sample: Sequence[str]) -> tuple[float, float]:
    """Mean and largest similarity of all pairs."""
    found = [shingles(prompt, 3) for prompt in sample]
    likenesses = [len(a & b) / len(a | b) for a, b in combinations(found, 2)]
    return statistics.fmean(likenesses), max(likenesses)


def _windowed(words: Sequence[str]) -> float:
    """The mean type-token ratio over consecutive windows of WINDOW words; over the whole text if it is shorter."""
    edges = [*range(0, max(1, len(words) - WINDOW + 1), WINDOW)]
    windows = [words[start : start + WINDOW] for start in edges]
    return statistics.fmean(len(set(window)) / max(1, len(window)) for window in windows)
