"""A run's recipe, key by key: its value, where that number comes from, and what it means."""

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from fewstep.run.recipe import describe, flat_keys, shipped_recipes
from fewstep.runtime import strict_yaml

LINE = re.compile(r"^(?P<indent> *)(?P<key>[\w.-]+):(?P<rest>.*)$")


def recipe_rows(recipe: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows. source: the comment of the shipped recipe that the run's follows, where the value is still that one's;
    otherwise what that one has."""
    base = _shipped_like(recipe)
    comments = {} if base is None else _comments(base)
    values = {} if base is None else _values(base)
    meanings = _meanings()
    rows = []
    for key, value in flat_keys(dict(recipe)).items():
        changed = key in values and values[key] != value
        source = f"{base} has {_plain(values[key])}" if changed else _comment_of(key, comments)
        rows.append({"key": key, "value": _plain(value), "changed": changed, "source": source, **meanings.get(key, {})})
    return rows


def _comment_of(key: str, comments: Mapping[str, str]) -> str:
    """Its own, or that of the key above whose line holds it."""
    while key and key not in comments:
        key = key.rpartition(".")[0]
    return comments.get(key, "")


def _shipped_like(recipe: Mapping[str, Any]) -> str | None:
    """The shipped recipe of this name, or else the first one for the same model."""
    names = shipped_recipes()
    if recipe.get("name") in names:
        return str(recipe["name"])
    return next((name for name in names if _values(name).get("model") == recipe.get("model")), None)


@cache
def _values(name: str) -> dict[str, Any]:
    held = strict_yaml.load_yaml(_text(name), name)
    return flat_keys(held) if isinstance(held, dict) else {}


@cache
def _comments(name: str) -> dict[str, str]:
    """Dotted key -> the comment at the end of its line."""
    found: dict[str, str] = {}
    open_keys: list[tuple[int, str]] = []
    for line in _text(name).splitlines():
        match = LINE.match(line)
        if match is None:
            continue
        depth = len(match["indent"])
        open_keys = [(indent, key) for indent, key in open_keys if indent < depth]
        open_keys.append((depth, match["key"]))
        _, mark, comment = match["rest"].partition(" #")
        if mark:
            found[".".join(key for _, key in open_keys)] = comment.strip()
    return found


@cache
def _meanings() -> dict[str, dict[str, str]]:
    return {note.key: {"meaning": note.description, "default": str(note.default)} for note in describe()}


def _text(name: str) -> str:
    return (resources.files("fewstep") / "run" / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")


def _plain(value: Any) -> str:
    return strict_yaml.dump_yaml(value).strip().removesuffix("\n...") if value is not None else "null"
