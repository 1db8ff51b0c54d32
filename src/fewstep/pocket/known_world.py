"""What may be asked of a pocket world, and which words of a prompt it does not know.

A large model draws something of any prompt. A pocket teacher has seen the phrases of its world and nothing else: any
other text is spelled in bytes that it never learnt, and what it draws then means nothing. So that is told.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from tokenizers import Tokenizer

SHOWN = 6  # words that a message names
_WORD = re.compile(r"\S+")
_IMAGE = re.compile(r"\bimage (\d)\b")
Parts = list[tuple[str, list[str]]]  # what is asked -> how it is said


@dataclass(frozen=True)
class KnownWorld:
    """
    Args:
        name: how people are told of it.
        knows: what it draws.
        vocabulary: its tokens with their ids.
        tokenizer: of its prompts.
        known_tokens: those that its teacher has learnt. The other tokens of the vocabulary spell what it has not.
        glyphs: what a sign can read, up to `longest` of them.
        example: a prompt; `edit_example` an instruction.
        parts: everything that may be asked, by part of a prompt.
        command: lists these parts.
        sizes: heights and widths that its teacher was trained at, in px.
        most_pictures: that an edit can have.
    """

    name: str
    knows: str
    vocabulary: Callable[[], dict[str, int]]
    tokenizer: Callable[[], Tokenizer]
    known_tokens: Callable[[], frozenset[str]]
    glyphs: str
    longest: int
    example: str
    edit_example: str
    parts: Callable[[], Parts]
    command: str
    sizes: tuple[tuple[int, int], ...]
    most_pictures: int

    def unknown_words(self, prompt: str) -> tuple[str, ...]:
        """The words of a prompt that stand in no phrase of this world, each once, in their order. A phrase counts as it
        is written, its capital included: " a red house" is one, "A Red House" is none."""
        text = self._letters.sub(lambda found: " " * len(found[0]), prompt)
        known, strange = self._known_tokens, set[int]()
        encoded = self.tokenizer().encode(text)
        for token, (begin, end) in zip(encoded.tokens, encoded.offsets, strict=True):
            if token not in known:
                strange |= set(range(begin, end))
        words = [match[0] for match in _WORD.finditer(text) if strange & set(range(*match.span()))]
        return tuple(dict.fromkeys(words))

    def say(self, prompt: str, pictures: int, size: tuple[int, int] | None) -> list[str]:
        """What a user is told of a call: words, pictures and a size that this world does not know.

        Args:
            pictures: how many the edit begins with; 0 of a prompt.
            size: height and width in px, if the call asks for one.
        """
        return [
            said
            for said in (self.say_unknown(prompt, pictures > 0), self.say_untrained(prompt, pictures, size))
            if said
        ]

    def say_unknown(self, prompt: str, edit: bool) -> str | None:
        """What a user is told of a prompt that this world cannot read whole; None if it can."""
        words = self.unknown_words(prompt)
        if not words:
            return None
        named = ", ".join(f"'{word}'" for word in words[:SHOWN]) + (" and more" if len(words) > SHOWN else "")
        return (
            f"'{prompt:.80}': {self.name} does not know {named}, and what it draws of that means nothing. It knows "
            f"{self.knows}, in phrases like those of '{self.edit_example if edit else self.example}', capitals "
            f"included; `{self.command}` lists them"
        )

    def say_untrained(self, prompt: str, pictures: int, size: tuple[int, int] | None) -> str | None:
        """What a user is told of a call that this world was never trained for: a size that it does not have, more
        pictures than its edits have, or fewer than the prompt names. None if it was. size: as asked for, if it was."""
        named = max((int(number) for number in _IMAGE.findall(prompt)), default=0)
        if named > pictures:
            return f"'{prompt:.80}' names image {named}, and {pictures} of its pictures are given; give them all"
        if pictures > self.most_pictures:
            return f"'{prompt:.80}': edits of {self.name} have {self.most_pictures} pictures at most, not {pictures}"
        if size is not None and size not in self.sizes:
            known = ", ".join(f"{high}x{wide}" for high, wide in self.sizes)
            return f"{self.name} was never drawn at {size[0]}x{size[1]}; it knows {known} (height x width)"
        return None

    def phrase_book(self) -> str:
        """Everything that may be asked, a line for each part of a prompt."""
        return "\n".join(f"{part}: {' | '.join(phrase.strip() for phrase in some)}" for part, some in self.parts())

    @cached_property
    def _letters(self) -> re.Pattern[str]:
        return re.compile(f'"[{re.escape(self.glyphs)}]{{1,{self.longest}}}"')

    @cached_property
    def _known_tokens(self) -> frozenset[str]:
        return self.known_tokens()
