"""What may enter a prompt set: nothing that it holds already, or nearly, and nothing that a benchmark holds."""

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from fewstep.data.prompts.near_duplicates import NearDuplicates
from fewstep.data.prompts.wording import normalised_text
from fewstep.data.words import ngrams, words_of

DedupOutcome = Literal["kept", "said before", "nearly said before", "in the benchmark"]


class PromptDedup:
    """avoid: prompts of a benchmark; a prompt that shares eight words in a row with one is dropped. counts: prompts by
    verdict."""

    def __init__(self, avoid: Iterable[str] = ()):
        self.counts: Counter[DedupOutcome] = Counter()
        self._avoided = {gram for prompt in avoid for gram in ngrams(words_of(prompt))}
        self._said: set[str] = set()
        self._near = NearDuplicates()

    @property
    def kept(self) -> int:
        return self.counts["kept"]

    @property
    def dropped(self) -> int:
        return self.counts.total() - self.kept

    def admits(self, prompt: str, about: str = "") -> bool:
        """Whether the prompt is new. `about`: its subject (an edit's picture); the same words about something else are
        new."""
        verdict = self._verdict(prompt, about)
        self.counts[verdict] += 1
        return verdict == "kept"

    def _verdict(self, prompt: str, about: str) -> DedupOutcome:
        said = f"{about}\n{normalised_text(prompt)}"
        if said in self._said:
            return "said before"
        if self._avoided and any(gram in self._avoided for gram in ngrams(words_of(prompt))):
            return "in the benchmark"
        if not about and not self._near.add(prompt):
            return "nearly said before"
        self._said.add(said)
        return "kept"
