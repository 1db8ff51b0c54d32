"""What a prompt says about its picture: tags that decide which edits fit, and things that edits can name.

Prompts are read by word lists (`things.grammar`), not understood. A thing counts only if it heads a phrase ("a red
boat, ..."), so "pine green" is no pine. A fact that is missed costs a choice; none is invented.
"""

import random
import re
from dataclasses import dataclass
from functools import cache

from fewstep.data.prompts import grammar
from fewstep.data.prompts.wording import QUOTED, quoted

THINGS = ("animal", "vehicle", "building", "plant", "furniture", "held")
NAMED = (*THINGS, "garment", "carrier")
PERSON = frozenset({"she", "he", "someone", "many", "child", "bearded", "glasses", "smiling"})
LONGEST_TEXT = 60  # characters of a text that an instruction still repeats
# What may follow the head of a phrase.
ENDS = (
    r"(?=[,.;:!?]|$|\s(?:with|in|on|at|of|by|beside|near|under|and|below|above|from|before|behind|over|to|that|who|beyond"
    r"|standing)\b)"
)


@dataclass(frozen=True)
class PromptTags:
    """tags: as the grammars use them. named: (kind, word) of things in the picture. texts: what is written in it. whom:
    a noun for the person; empty if no person is known to be shown."""

    tags: frozenset[str] = frozenset({"unknown"})
    named: tuple[tuple[str, str], ...] = ()
    texts: tuple[str, ...] = ()
    whom: str = ""

    def draw_slots(self, rng: random.Random) -> tuple[dict[str, str], frozenset[str]]:
        """One thing, one text and one person that an instruction may name, as rules that are decided; and all tags with
        them."""
        said: dict[str, str] = {}
        tags = set(self.tags)
        things = [pair for pair in self.named if pair[0] in THINGS]
        if things:
            kind, said["thing"] = things[int(rng.random() * len(things))]
            tags |= {"one_thing", kind}
        if self.texts:
            said["old"] = self.texts[int(rng.random() * len(self.texts))]
            tags |= {"one_text", *_look(said["old"])}
        for rule, kind in (("garment_there", "garment"), ("carrier_there", "carrier")):
            words = [word for found, word in self.named if found == kind]
            if words:
                said[rule] = words[0]
        if self.whom:
            said["whom"] = self.whom
            tags.add("somebody")
        return said, frozenset(tags)


def tags_of(prompt: str | None, category: str | None) -> PromptTags:
    """The tags of a picture with this prompt. `category`: landscape, portrait or text if known."""
    if not prompt:
        tags = {category} if category else {"unknown"}
        return PromptTags(frozenset(tags), whom="person" if category == "portrait" else "")
    texts = tuple(text for text in quoted(prompt) if len(text) <= LONGEST_TEXT)
    words = QUOTED.sub(" ", prompt).casefold()
    tags = {name for name, pattern in _patterns().items() if name not in NAMED and pattern.search(words)}
    kind = category or _guessed(tags, bool(texts))
    if kind != "portrait":
        tags -= PERSON
    tags |= {"outdoors"} if kind == "landscape" else set()
    tags |= set() if "child" in tags else {"adult"}
    named = tuple((name, found) for name in NAMED for found in _found(name, words))
    return PromptTags(
        frozenset(tags | ({kind} if kind else set())), named, texts, _whom(tags) if kind == "portrait" else ""
    )


def _look(text: str) -> set[str]:
    """How a text that replaces this one should look."""
    letters = [character for character in text if character.isalpha()]
    if not letters:
        return {"number_text"}
    return {"upper_text"} if all(character.isupper() for character in letters) else set()


def _guessed(tags: set[str], has_text: bool) -> str | None:
    if has_text:
        return "text"
    if tags & {"she", "he", "someone", "many"}:
        return "portrait"
    return "landscape" if "outdoors" in tags else None


def _whom(tags: set[str]) -> str:
    if "many" in tags:
        return "people"
    if "she" in tags:
        return "girl" if "child" in tags else "woman"
    if "he" in tags:
        return "boy" if "child" in tags else "man"
    return "child" if "child" in tags else "person"


def _found(name: str, words: str) -> list[str]:
    """The things of one kind that head a phrase. Of two with the same head, the longer."""
    found = dict.fromkeys(match[1] for match in _patterns()[name].finditer(words))
    return [word for word in found if not any(word != other and other.endswith(f" {word}") for other in found)]


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    """By rule name. Longer words first."""
    patterns = {}
    for name, rule in grammar.load_grammar("things").rules.items():
        words = sorted((str(a.parts[0]).casefold() for a in rule.alternatives), key=len, reverse=True)
        either = "|".join(map(re.escape, words))
        phrase = (
            rf"\b(?:a|an|the|one)\s(?:[\w-]+\s){{0,3}}?({either}){ENDS}" if name in NAMED else rf"\b(?:{either})s?\b"
        )
        patterns[name] = re.compile(phrase)
    return patterns
