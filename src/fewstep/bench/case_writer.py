"""The requests to a model that writes a suite's cases, and how its answers are read.

Every call contains a few words drawn at random, because a model that gets the same request again writes the same cases
again.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from fewstep.data.cases import MAX_WORDS
from fewstep.endpoint.messages import (
    encode_picture,
    mixed_message,
    text_message,
)
from fewstep.runtime.seeded import seeded_random
from fewstep.runtime.strict_json import load_json

CASES_PER_CALL = 8  # cases asked for at once, ours: with more, the later ones repeat the earlier
FENCE = re.compile(r"\s*```(?:json)?[ \t]*\n(.*)\n```\s*", re.DOTALL)

T2I_SYSTEM = """\
You write test prompts for text-to-image models. A prompt is what a demanding person would type: one to three \
sentences in English, concrete, about things that can be checked by looking at the picture (what, how many, \
which colour, where, which light, which medium). No real persons, no brands, no artists by name, nothing violent \
or sexual. Every prompt differs from the others in subject, place and composition. Answer with a JSON object \
{"cases": [{"prompt": "...", "text": ["..."]}]} and nothing else. `text` lists every line of words that the \
picture has to show, letter by letter as it stands in the prompt; it is empty where the picture shows no words."""
T2I_KINDS = {
    "landscape": "places: nature, towns, weather, seasons, seen from near or far; people at most as small figures",
    "portrait": "people: one to three persons, their faces, ages, clothes, hands, moods, what they do",
    "text": "pictures with words in them: signs, covers, posters, screens, handwriting, labels, menus. Each prompt "
    "quotes the words between straight quotation marks, between one and six lines of one to six words",
}
T2I_HINTS = {
    "landscape": (
        ("coast", "desert", "mountains", "old town", "forest", "farmland", "river", "island", "arctic", "suburb"),
        ("dawn", "noon", "dusk", "night", "storm", "fog", "first snow", "after rain"),
        ("photograph", "oil painting", "watercolour", "aerial view", "woodcut", "long exposure"),
    ),
    "portrait": (
        ("at work", "at rest", "in sport", "on a journey", "at a feast", "in a workshop", "at school", "in rain"),
        ("child", "teenager", "young adult", "middle-aged", "old", "two generations", "a pair of friends"),
        ("close-up", "half figure", "full figure", "black and white", "painting", "window light", "backlight"),
    ),
    "text": (
        ("shop sign", "book cover", "poster", "screen", "handwritten note", "label", "menu", "ticket", "map", "banner"),
        ("one word", "two lines", "numbers and times", "small print", "a long sentence", "three short lines"),
        ("photograph", "flat design", "vintage print", "neon", "chalk", "carved in stone", "embroidered"),
    ),
}
EDIT_SYSTEM = """\
You write test instructions for picture editing models. You see one picture. Write instructions that a person \
would give for this very picture: one sentence in English each, each possible with what the picture shows, each \
clear about what changes; a good editor could follow it without asking. No real persons, no brands, nothing \
violent or sexual. Answer with a JSON object {"cases": [{"prompt": "...", "text": ["..."]}]} and nothing else. \
`text` lists every line of words that the edited picture has to show and is empty where the edit is not about \
words. If the picture does not allow such an edit, answer {"cases": []}."""
EDIT_KINDS = {
    "scene": "changes of the scene as a whole: season, weather, time of day, place or background; the subject stays",
    "perceptual": "repairs. This picture was spoiled on purpose ({harm}); ask for that to be mended, in various words",
    "object": "one object added, removed, replaced, moved or recoloured; name it so that it cannot be mistaken",
    "text": "words that the picture shows are changed, added, removed or translated; quote the new words. Only if "
    "readable words are in the picture",
    "identity": "a person's hair, clothes, expression, age, glasses, beard, hat or pose; it remains the same person. "
    "Only if a person is in the picture",
    "style": "the whole picture in another style or medium; content and layout stay",
}
EDITS_PER_CALL = 2  # of one picture

SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["cases"],
    "properties": {
        "cases": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["prompt", "text"],
                "properties": {"prompt": {"type": "string"}, "text": {"type": "array", "items": {"type": "string"}}},
            },
        }
    },
}


@dataclass(frozen=True)
class WrittenCase:
    """One case as a model wrote it, before duplicates are dropped."""

    prompt: str
    text: tuple[str, ...]


def t2i_messages(category: str, number: int, seed: int) -> list[dict[str, Any]]:
    lot = seeded_random("wish", seed, category, number)
    hints = ", ".join(lot.choice(words) for words in T2I_HINTS[category])
    wish = f"Write {CASES_PER_CALL} prompts about {T2I_KINDS[category]}. Let these words lead some of them: {hints}."
    return [text_message("system", T2I_SYSTEM), text_message("user", wish)]


def edit_messages(category: str, picture: Image.Image, harm: str | None, side: int | None) -> list[dict[str, Any]]:
    kind = EDIT_KINDS[category].format(harm=harm or "")
    wish = f"Write {EDITS_PER_CALL} instructions of this kind: {kind}."
    return [text_message("system", EDIT_SYSTEM), mixed_message("user", [wish, encode_picture(picture, side)])]


def read_cases(answer: str) -> tuple[list[WrittenCase], str | None]:
    """The cases of an answer, and why there are none if it is not in the form asked for."""
    fenced = FENCE.fullmatch(answer)
    try:
        content = load_json(fenced[1] if fenced else answer)
    except ValueError as error:
        return [], f"no JSON ({error})"
    cases = content.get("cases") if isinstance(content, dict) else None
    if not isinstance(cases, list):
        return [], "no list under 'cases'"
    found = [written for case in cases if (written := _written(case)) is not None]
    return found, None if found or not cases else "no usable case in it"


def _written(case: object) -> WrittenCase | None:
    if not isinstance(case, Mapping) or not isinstance(case.get("prompt"), str):
        return None
    prompt, lines = case["prompt"].strip(), case.get("text", [])
    if not prompt or len(prompt.split()) > MAX_WORDS or not prompt.isprintable():
        return None
    if not isinstance(lines, list) or not all(isinstance(line, str) and line.strip() for line in lines):
        return None
    return WrittenCase(prompt, tuple(line.strip() for line in lines))
