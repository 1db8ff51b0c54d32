"""What `--set` of a whole section takes away.

A mapping at a section replaces the section, as lists are replaced: `--set student.adapter={rank: 8}` forgets what the
recipe says of `student.adapter.targets`. Recipes that extend another one are merged key by key instead, so whoever
knows that would not expect it.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.run.recipe import Recipe, flat_keys, raw_recipe, set_key
from fewstep.runtime import strict_yaml

GONE = "gone"


@dataclass(frozen=True)
class _Change:
    """One override: a dotted key and its value."""

    key: str
    value: Any

    @property
    def replaces_section(self) -> bool:
        return isinstance(self.value, dict)

    def names(self, key: str) -> bool:
        """Whether it says what this key is to be. An empty mapping says nothing of any key."""
        said = [self.key] if not self.replaces_section else list(_named(self.value, self.key))
        return any(_within(key, one) or _within(one, key) for one in said)


def reset_keys(name: str | Path, overrides: Sequence[str], chosen: Recipe, since: int = 0) -> list[str]:
    """`key: value before -> value now`, for each key that overrides change without naming it; `section -> null` or
    `section -> gone` of a whole one that is there no more.

    Args:
        name: a shipped recipe, or a YAML file.
        overrides: `key=value` texts, as `--set` takes them.
        chosen: what `load_recipe` makes of both.
        since: the first override whose changes are told.
    """
    raw, now = raw_recipe(str(name)), chosen.resolved()
    changes = [_change(override) for override in overrides]
    told: dict[str, str] = {}
    for number, change in enumerate(changes):
        if number >= since and change.replaces_section and not _emptied(change.key, now):
            told |= _changed_unnamed(raw, changes[number:], now)
        set_key(raw, change.key, change.value, change.key)
    return list(told.values())


def _changed_unnamed(raw: Any, changes: Sequence[_Change], now: Any) -> dict[str, str]:
    """What is told of the section that the first of these changes replaces, by key or lost section."""
    told = {}
    for key, value in _held_under(raw, changes[0].key).items():
        if any(change.names(key) for change in changes) or _same(value, _at(now, key)):
            continue
        lost = _lost_section(key, now)
        before = lost or f"{key}: {_said(value)}"
        told[lost or key] = f"{before} -> {_said(_at(now, lost or key))}"
    return told


def _change(override: str) -> _Change:
    key, _, text = override.partition("=")
    return _Change(key.strip(), strict_yaml.load_yaml(text, f"--set {key}"))


def _named(value: dict[str, Any], key: str) -> Iterator[str]:
    """The keys that a mapping says something of."""
    for part, inner in value.items():
        if isinstance(inner, dict):
            yield from _named(inner, f"{key}.{part}")
        else:
            yield f"{key}.{part}"


def _held_under(raw: Any, key: str) -> dict[str, Any]:
    """What stands under a key, by dotted key; a value that is no mapping under none."""
    held = _at(raw, key)
    return flat_keys(held, key) if isinstance(held, dict) and held else {}


def _emptied(key: str, now: Any) -> bool:
    """Whether nothing stands there now, since whoever wrote `{}` asked for that. A section has its defaults there."""
    return _at(now, key) == {}


def _lost_section(key: str, now: Any) -> str | None:
    """The outermost section of a key that is null or gone."""
    parts = key.split(".")
    sections = (".".join(parts[:length]) for length in range(1, len(parts)))
    return next((section for section in sections if _at(now, section) in (None, GONE)), None)


def _at(tree: Any, key: str) -> Any:
    """The value at a dotted key. None where a part of the way is null, GONE where it is not there."""
    here = tree
    for part in key.split("."):
        if isinstance(here, list) and part.isdecimal() and int(part) < len(here):
            here = here[int(part)]
        elif isinstance(here, dict) and part in here:
            here = here[part]
        else:
            return None if here is None else GONE
    return here


def _same(before: Any, now: Any) -> bool:
    """Nothing that is null is nothing that is gone."""
    return before == now or (before is None and now == GONE)


def _within(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")


def _said(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
