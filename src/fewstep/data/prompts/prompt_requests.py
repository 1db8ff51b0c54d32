"""The requests to a language model, and how its answers are read.

A request is known by its number: its text follows from (category, seed, number) alone, so a request that was answered
need not be sent again. To keep a model from writing the same few prompts again and again, each request contains ideas
that the grammar draws, with lengths.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Protocol

import yaml

from fewstep.data.cases import Case, prompt_of
from fewstep.data.pictures import open_picture
from fewstep.data.prompts import grammar_edits, grammar_prompts
from fewstep.data.prompts.edit_source import EditSource
from fewstep.data.prompts.wording import finished_text, quoted
from fewstep.endpoint.messages import (
    encode_picture,
    mixed_message,
    text_message,
)
from fewstep.runtime.errors import CaseError
from fewstep.runtime.seeded import seeded_random
from fewstep.runtime.strict_json import load_json

FOLDER = Path(__file__).parent / "questions"
LENGTHS = ((8, 16), (25, 45), (60, 100))  # words, ours: short, medium and long prompts in equal parts
FEWEST, MOST = 3, 400  # words that count as a prompt
THOUGHT = re.compile(r"<think>.*?</think>|^.*?</think>", re.DOTALL)  # of models that reason aloud, Qwen3 among them
FENCED = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"prompts": {"type": "array", "items": {"type": "string"}}},
    "required": ["prompts"],
    "additionalProperties": False,
}

_Message = Mapping[str, Any]


class AcceptsPrompts(Protocol):
    """What is needed to read an answer. each: prompts wanted of one request."""

    @property
    def each(self) -> int: ...
    def accepts(self, prompt: str) -> bool: ...


class CategoryRequests(AcceptsPrompts, Protocol):
    """A category that a model writes prompts for. name: the category."""

    @property
    def name(self) -> str: ...
    def messages(self, number: int) -> list[_Message]: ...
    def about(self, number: int) -> str: ...
    def case(self, number: int, prompt: str, name: str, source: str) -> Case: ...
    def fingerprint(self) -> str: ...


@dataclass(frozen=True)
class T2IRequests:
    """Prompts of one text-to-image category."""

    name: str
    seed: int
    each: int

    def messages(self, number: int) -> list[_Message]:
        ideas = "\n".join(self._idea(number, n) for n in range(self.each))
        return [
            text_message("system", words_of_file("t2i.md")),
            text_message("user", f"{words_of_file(f'{self.name}.md')}\n{ideas}"),
        ]

    def accepts(self, prompt: str) -> bool:
        """Only prompts of the text category may ask for writing: in the others it teaches stray letters (field)."""
        return bool(quoted(prompt)) == (self.name == "text")

    def about(self, number: int) -> str:
        return ""

    def case(self, number: int, prompt: str, name: str, source: str) -> Case:
        return Case(name, "t2i", prompt, self.name, source=source)

    def fingerprint(self) -> str:
        return _hash(
            self.seed,
            words_of_file("t2i.md"),
            words_of_file(f"{self.name}.md"),
            grammar_prompts.grammar_hash(self.name),
        )

    def _idea(self, number: int, n: int) -> str:
        rng = seeded_random("ideas", self.name, self.seed, number, n)
        low, high = LENGTHS[int(rng.random() * len(LENGTHS))]
        length = low + int(rng.random() * (high - low + 1))
        return (
            f"{n + 1}. ({length} words) {finished_text(grammar_prompts.grammar_of(self.name).expand('idea', rng).text)}"
        )


@dataclass(frozen=True)
class EditRequests:
    """Instructions of one edit category, about the pictures in turn. degraded_folder: as in `edits_from_grammar`;
    max_side: in px, of the picture that is sent."""

    name: str
    pictures: tuple[EditSource, ...]
    seed: int
    each: int
    degraded_folder: Path | None
    max_side: int | None

    def messages(self, number: int) -> list[_Message]:
        path = self._reference(number)
        picture = encode_picture(open_picture(path, str(path)), self.max_side)
        told = self._turn[number % len(self._turn)].prompt
        known = f"\nIt was made from this description, which may be wrong:\n<description>\n{told}\n</description>"
        asked = f"{edit_categories()[self.name]}\nWrite {self.each} instructions for this picture."
        return [
            text_message("system", words_of_file("edit.md")),
            mixed_message("user", [picture, asked + (known if told else "")]),
        ]

    def accepts(self, prompt: str) -> bool:
        return True

    def about(self, number: int) -> str:
        return self._turn[number % len(self._turn)].name

    def case(self, number: int, prompt: str, name: str, source: str) -> Case:
        shown_there = self._turn[number % len(self._turn)]
        return grammar_edits.make_edit_case(
            self.name, shown_there, prompt, name, source, self._degradation(number), self.degraded_folder
        )

    def fingerprint(self) -> str:
        names = sorted(picture.name for picture in self.pictures)
        return _hash(
            self.seed, words_of_file("edit.md"), edit_categories()[self.name], *names, self.degraded_folder is None
        )

    @cached_property
    def _turn(self) -> list[EditSource]:
        return grammar_edits.in_drawn_order(self.name, self.pictures, self.seed)

    def _degradation(self, number: int) -> grammar_edits.Degradation | None:
        if self.name != "perceptual" or self.degraded_folder is None:
            return None
        return grammar_edits.degradation_of(self._turn[number % len(self._turn)], self.seed, number)

    def _reference(self, number: int) -> Path:
        there, degradation = self._turn[number % len(self._turn)], self._degradation(number)
        return (
            grammar_edits.degraded_copy(there, degradation, self.degraded_folder)
            if degradation and self.degraded_folder
            else there.path
        )


def prompts_in(answer: str) -> list[str]:
    """The prompts that an answer holds, each on one line.

    Raises:
        ValueError: no JSON of the form that was asked for. A rambling answer is not guessed at.
    """
    words = THOUGHT.sub("", answer).strip()
    fenced = FENCED.fullmatch(words)
    content = load_json(fenced[1] if fenced else words)
    prompts = content.get("prompts") if isinstance(content, dict) else content
    if not isinstance(prompts, list) or not all(isinstance(prompt, str) for prompt in prompts):
        raise ValueError('no list of strings under "prompts"')
    return [" ".join(prompt.split()) for prompt in prompts]


def usable(prompt: str, ask: AcceptsPrompts) -> bool:
    """Whether a prompt has a sane length, can be written to a file, and is of its category."""
    try:
        return FEWEST <= len(prompt_of(prompt, "").split()) <= MOST and ask.accepts(prompt)
    except CaseError:
        return False


@cache
def words_of_file(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8").strip()


@cache
def edit_categories() -> dict[str, str]:
    return dict(yaml.safe_load(words_of_file("edit-categories.yaml")))


def _hash(*parts: object) -> str:
    return hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).hexdigest()
