"""Which written cases may stand in a suite: no two that say nearly the same, and nothing that training has read."""

from collections.abc import Iterable

from fewstep.bench.wishes import Written
from fewstep.data.overlap import grams, words_of

RUN = 3  # words
NEAR = 0.5  # ours: the share of runs of three words that two prompts may have in common (Jaccard)


class Sift:
    """Remembers what it has admitted. forbidden: training prompts; eight words in a row are taken for a copy, as is a
    shorter prompt that is equal."""

    def __init__(self, forbidden: Iterable[str] = ()):
        self._forbidden = {gram for prompt in forbidden for gram in grams(words_of(prompt))}
        self._said: set[tuple[str, ...]] = set()
        self._runs: list[frozenset[tuple[str, ...]]] = []

    def refusal(self, written: Written, category: str, about: str = "") -> str | None:
        """Why the case may not stand; None where it may, and from then on it does. about: the picture of an edit - the
        same words about another picture are another case."""
        words = words_of(written.prompt)
        said = (about, *words)
        if not words or said in self._said:
            return "said before"
        if any(gram in self._forbidden for gram in grams(words)):
            return "in training"
        if not about and category == "text" and not _quotes(written):
            return "words to show that the prompt does not quote"
        if not about and not self._new(words):
            return "nearly said before"
        self._said.add(said)
        return None

    def _new(self, words: list[str]) -> bool:
        runs = frozenset(tuple(words[i : i + RUN]) for i in range(max(1, len(words) - RUN + 1)))
        if any(len(runs & known) > NEAR * len(runs | known) for known in self._runs):
            return False
        self._runs.append(runs)
        return True


def _quotes(written: Written) -> bool:
    """What a prompt of the category text expects has to stand in it, letter by letter."""
    return bool(written.text) and all(line in written.prompt for line in written.text)
