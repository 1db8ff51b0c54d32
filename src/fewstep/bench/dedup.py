"""Which written cases a suite takes: no two that are nearly the same, and none that training has seen."""

from collections.abc import Iterable

from fewstep.bench.case_writer import WrittenCase
from fewstep.data.prompts.near_duplicates import NearDuplicates
from fewstep.data.words import ngrams, words_of


class CaseDedup:
    """Remembers the cases that it has admitted. forbidden: training prompts. A prompt that shares eight words in a row
    with one counts as a copy; so does a shorter prompt that is equal."""

    def __init__(self, forbidden: Iterable[str] = ()):
        self._forbidden = {gram for prompt in forbidden for gram in ngrams(words_of(prompt))}
        self._said: set[tuple[str, ...]] = set()
        self._near = NearDuplicates()

    def refusal(self, written: WrittenCase, category: str, about: str = "") -> str | None:
        """Why the case is refused. None if it is admitted; from then on it counts as one of the suite. about: the
        picture of an edit; the same words about another picture are another case."""
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
    """Everything that a prompt of the category text expects has to appear in it, letter by letter."""
    return bool(written.text) and all(line in written.prompt for line in written.text)
