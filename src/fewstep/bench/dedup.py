"""Which written cases may stand in a suite: no two that say nearly the same, and nothing that training has read."""

from collections.abc import Iterable

from fewstep.bench.case_writer import WrittenCase
from fewstep.data.prompts.near_duplicates import NearDuplicates
from fewstep.data.words import ngrams, words_of


class CaseDedup:
    """Remembers what it has admitted. forbidden: training prompts; eight words in a row are taken for a copy, as is a
    shorter prompt that is equal."""

    def __init__(self, forbidden: Iterable[str] = ()):
        self._forbidden = {gram for prompt in forbidden for gram in ngrams(words_of(prompt))}
        self._said: set[tuple[str, ...]] = set()
        self._near = NearDuplicates()

    def refusal(self, written: WrittenCase, category: str, about: str = "") -> str | None:
        """Why the case may not stand; None where it may, and from then on it does. about: the picture of an edit - the
        same words about another picture are another case."""
        words = words_of(written.prompt)
        said = (about, *words)
        if not words or said in self._said:
            return "said before"
        if any(gram in self._forbidden for gram in ngrams(words)):
            return "in training"
        if not about and category == "text" and not _quotes(written):
            return "words to show that the prompt does not quote"
        if not about and not self._near.add(written.prompt):
            return "nearly said before"
        self._said.add(said)
        return None


def _quotes(written: WrittenCase) -> bool:
    """What a prompt of the category text expects has to stand in it, letter by letter."""
    return bool(written.text) and all(line in written.prompt for line in written.text)
