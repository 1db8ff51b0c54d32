"""The keys of a recipe, and the error messages for wrong ones."""

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from rapidfuzz import fuzz, process

from fewstep.runtime.section import Section

NEAR = 60  # of 100: the nearest key is offered from here on
PLAIN = {int: "whole number", float: "number", str: "text", bool: "true | false", type(None): "null"}
REQUIRED = "(required)"
SHORT = {"lr": "learning_rate", "wd": "weight_decay", "cfg": "scale", "bs": "batch"}  # what others call them
WORDED = dict.fromkeys(("dict_type", "model_type"), "should hold `key: value` lines")
WORDED |= dict.fromkeys(("tuple_type", "list_type"), "should be a list")
WORDED |= {"float_parsing": "should be a number", "int_parsing": "should be a whole number"}
WORDED |= {"int_from_float": "should be a whole number", "string_type": "should be text"}

OTHER_BRANCH = ("literal_error", "int_type")  # of a mapping, where one plain value would do as well

BOUNDS = {  # pydantic's names of faults, how it keeps the bound, and our words
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "greater than or equal to"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "less than or equal to"),
}


@dataclass(frozen=True)
class KeyNote:
    """One key: its dotted name (names that users choose are in angle brackets, list entries are []), type, default,
    meaning, and the range of a number in words."""

    key: str
    type: str
    default: Any
    description: str
    range: str = ""


def key_notes(plan: type[Section], prefix: str = "") -> list[KeyNote]:
    """All keys below a section, in order."""
    notes: list[KeyNote] = []
    for name, field in plan.model_fields.items():
        key = f"{prefix}{name}"
        inners = _inners(field.annotation)
        if not any(not step for _, step in inners) or type(None) in _options(field.annotation):
            notes.append(KeyNote(key, _type_text(field.annotation), _default(field), *_words(field)))
        for inner, step in inners:
            notes += key_notes(inner, f"{key}{step}.")
    return notes


def refusals(
    error: ValidationError, raw: Mapping[str, Any], notes: Sequence[KeyNote], whole: str = "a recipe"
) -> list[str]:
    """One message for each wrong key, in the order of the file. `whole` names what the keys belong to."""
    found = [
        (_dotted(fault["loc"], raw, fault["type"] == "missing"), fault) for fault in error.errors(include_url=False)
    ]
    faults: dict[str, list[str]] = {}
    for key, fault in found:
        if fault["type"] in OTHER_BRANCH and any(other.startswith(f"{key}.") for other, _ in found):
            continue  # a value for each task was meant, and what is wrong inside is named
        faults.setdefault(key, []).append(_sentence(fault, notes, key, whole))
    return [" or ".join(dict.fromkeys(sentences)) for sentences in faults.values()]


def _sentence(fault: Any, notes: Sequence[KeyNote], key: str, whole: str) -> str:
    if fault["type"] == "extra_forbidden":
        near = nearest_key(key, notes)
        rest = " (fewstep recipe schema)" if whole == "a recipe" else f"; it has {', '.join(n.key for n in notes)}"
        return f"{key} is no key of {whole}" + (f"; did you mean {near}?" if near else rest)
    if fault["type"] == "missing" and isinstance(fault["loc"][-1], int):
        return f"{key} has too few entries"
    if fault["type"] == "missing":
        note = _note_of(key, notes)
        return f"{key} is missing: {note.description if note else ''}"
    if fault["type"] == "too_short":
        return f"{key} should hold at least {fault['ctx']['min_length']}, not {fault['ctx']['actual_length']}"
    own = fault.get("ctx", {}).get("error")
    if own is not None:
        text = str(own)
        stated = not key or text.split(".")[0].split(" ")[0] == key.split(".")[0] or key in text
        return text if stated else f"{key}: {text}"
    if fault["type"] in BOUNDS and (note := _note_of(key, notes)) is not None and note.range:
        return f"{key} should be {note.range}, not {fault['input']!r:.60}"
    text = WORDED.get(fault["type"]) or fault["msg"].replace("Input should", "should")
    return f"{key} {text}, not {fault['input']!r:.60}"


def _note_of(key: str, notes: Sequence[KeyNote]) -> KeyNote | None:
    general = _general(key, notes)
    return next((note for note in notes if note.key == general), None)


def nearest_key(key: str, notes: Sequence[KeyNote]) -> str | None:
    """The known key that was probably meant by `key`, searched in its own section first, then everywhere."""
    section, _, leaf = key.rpartition(".")
    leaf = SHORT.get(leaf, leaf)
    general = _general(section, notes)
    known = {part for note in notes for part in _sections(note.key)}
    beside = {other.rpartition(".")[2]: other for other in known if other.rpartition(".")[0] == general}
    close = process.extractOne(leaf, list(beside), scorer=fuzz.ratio, score_cutoff=NEAR)
    if close is not None:
        return f"{section}.{close[0]}" if section else close[0]
    leaves: dict[str, str] = {}
    for note in notes:
        leaves.setdefault(note.key.rpartition(".")[2], note.key)
    close = process.extractOne(leaf, list(leaves), scorer=fuzz.ratio, score_cutoff=NEAR + 20)
    return None if close is None else leaves[close[0]]


def _sections(key: str) -> list[str]:
    """The key, and every section that it is in."""
    parts = key.split(".")
    return [".".join(parts[: n + 1]) for n in range(len(parts))]


def _general(key: str, notes: Sequence[KeyNote]) -> str:
    """teachers.named.mine -> teachers.named.<name>; data.t2i.0 -> data.t2i[]."""
    known = {part for note in notes for part in _sections(note.key)}
    found = ""
    for part in key.split(".") if key else []:
        options = [f"{found}.{part}" if found else part, f"{found}.<name>", f"{found}.<task>"]
        if part.isdecimal():
            options = [f"{found}[]"]
        found = next((option for option in options if option in known), options[0])
    return found


def _dotted(location: tuple[int | str, ...], raw: Any, missing: bool) -> str:
    """The path as the user wrote it, without the branches of unions that pydantic inserts."""
    parts: list[str] = []
    here = raw
    for number, part in enumerate(location):
        known = part in here if isinstance(here, dict) else isinstance(here, list) and part in range(len(here))
        if known:
            here = here[part]
        if known or (missing and number == len(location) - 1 and isinstance(part, str)):
            parts.append(str(part))
    return ".".join(parts)


def _inners(annotation: Any) -> list[tuple[type[Section], str]]:
    """The sections that a key may hold, and what comes between in their dotted names: nothing, a name that the user
    chooses, a task, or a list entry."""
    found: list[tuple[type[Section], str]] = []
    for option in _options(annotation):
        origin, arguments = typing.get_origin(option), typing.get_args(option)
        if isinstance(option, type) and issubclass(option, Section):
            found.append((option, ""))
        elif origin is dict:
            step = ".<task>" if typing.get_origin(arguments[0]) is Literal else ".<name>"
            found += [(inner, step) for inner, _ in _inners(arguments[1])]
        elif origin is tuple:
            found += [(inner, "[]") for inner, _ in _inners(arguments[0])]
    return found


def _options(annotation: Any) -> tuple[Any, ...]:
    """The branches of a union, without their annotations."""
    union = typing.get_origin(annotation) in (Union, types.UnionType)
    return tuple(map(_bare, typing.get_args(annotation))) if union else (_bare(annotation),)


def _bare(annotation: Any) -> Any:
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is Annotated else annotation


def _type_text(annotation: Any) -> str:
    annotation = _bare(annotation)
    if annotation in PLAIN:
        return PLAIN[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return " | ".join(_type_text(option) for option in arguments)
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin is tuple:
        many = arguments[-1] is Ellipsis
        return f"list of {_type_text(arguments[0])}" if many else f"[{', '.join(map(_type_text, arguments))}]"
    if origin is dict:
        return f"{{{_type_text(arguments[0])}: {_type_text(arguments[1])}}}"
    return "section" if isinstance(annotation, type) and issubclass(annotation, Section) else str(annotation)


def _words(field: FieldInfo) -> tuple[str, str]:
    """Meaning and range."""
    bounds = [
        f"{words} {bound:,}"
        for kept in field.metadata
        for name, words in BOUNDS.values()
        if (bound := getattr(kept, name, None)) is not None
    ]
    return field.description or "", " and ".join(bounds)


def _default(field: FieldInfo) -> Any:
    if field.is_required():
        return REQUIRED
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Section):
        return value.model_dump(mode="json")
    return list(value) if isinstance(value, tuple) else value
