"""What the names in a record mean. One table serves every format: keys of JSON, columns, members of a tar, folders.

A picture under a name that is not in the table is refused, never dropped: a reference that goes missing turns an edit
into text-to-image without a word.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from rapidfuzz import fuzz, process

from fewstep.data.picture_values import pictures_in
from fewstep.runtime.errors import CaseError

PictureRole = Literal["prompt", "target", "references"]
ALIASES: dict[PictureRole, tuple[str, ...]] = {  # first the canonical name
    "prompt": ("prompt", "text", "caption", "instruction"),
    "target": (
        *("target_image", "target", "image", "edited_image", "file_name"),
        *("image_path", "output_image", "output", "target_img"),
    ),
    "references": (
        *("reference_images", "references", "reference_image", "reference", "edit_image", "edit_images"),
        *("source_image", "source_images", "source_img", "source", "input_image", "input_images", "input"),
        *("control", "control_image", "control_images", "control_path", "cond_image", "cond_images"),
        *("conditioning_image", "conditioning_images", "condition_image", "init_image", "original_image"),
    ),
}
ALSO_WORDS = frozenset({"reference", "source", "input", "output"})  # others give these names to words as well
NOTHING: tuple[object, ...] = (None, "", [])
_NUMBERED = re.compile(r"(?P<stem>.*[^\d._-])[._-]?(?P<number>\d{1,9})")
_ROLES: dict[str, PictureRole] = {name: role for role, names in ALIASES.items() for name in names}


@dataclass(frozen=True)
class KeyRole:
    """stem: the name as the table has it. number: what follows it, as in input_image_2."""

    role: PictureRole
    stem: str
    number: int | None = None


@cache
def role_of(name: str) -> KeyRole | None:
    """None for a name that means nothing here. Only references are numbered: a case has one prompt and one target."""
    if (role := _ROLES.get(name)) is not None:
        return KeyRole(role, name)
    match = _NUMBERED.fullmatch(name)
    if match is None or _ROLES.get(match["stem"]) != "references":
        return None
    return KeyRole("references", match["stem"], int(match["number"]))


def is_picture_name(name: str) -> bool:
    """Whether pictures are read under this name."""
    found = role_of(name)
    return found is not None and found.role != "prompt"


def picture_role(record: Mapping[str, Any], key: str, folder: Path) -> KeyRole | None:
    """The role that the key's value plays as pictures. A name that is also given to words needs a value that is a
    picture's; beside other references one that is there."""
    found = role_of(key)
    if found is None or found.role == "prompt" or record[key] in NOTHING:
        return None
    if found.stem not in ALSO_WORDS:
        return found
    pictures = pictures_in(record[key])
    if any(_states_role(record, name, found.role) for name in record if name != key):
        pictures = [picture for picture in pictures if _is_there(folder, picture)]
    return found if pictures else None


def picture_values(record: Mapping[str, Any], role: PictureRole, folder: Path, where: str) -> list[Any]:
    """The values under all names of a role, numbered ones in the order of their numbers.

    Raises:
        CaseError: numbers with a gap or one twice, or two names that disagree.
    """
    groups: dict[str, dict[str, int | None]] = {}
    for key in record:
        if (found := picture_role(record, key, folder)) is not None and found.role == role:
            groups.setdefault(found.stem, {})[key] = found.number
    read = {
        " and ".join(keys): [item for key in in_order(keys, where) for item in _items(record[key])]
        for keys in groups.values()
    }
    values = list(read.values())
    if any(value != values[0] for value in values[1:]):
        raise CaseError(f"{where}: {' and '.join(read)} disagree; say which is meant under {ALIASES[role][0]!r} alone")
    return values[0] if values else []


def in_order(numbers: Mapping[str, int | None], where: str) -> list[str]:
    """Names of one stem in the order of their numbers; the one without a number comes first.

    Raises:
        CaseError: a number twice, or one left out.
    """
    ordered = sorted(numbers, key=lambda name: -1 if numbers[name] is None else int(numbers[name] or 0))
    counted = [(name, number) for name in ordered if (number := numbers[name]) is not None]
    bare = [name for name in ordered if numbers[name] is None]
    if len(bare) > 1:
        raise CaseError(f"{where}: {bare[0]} and {bare[1]} mean the same; leave one out")
    previous = 1 if bare else 0
    for position, (name, number) in enumerate(counted):
        if position and number == previous:
            raise CaseError(f"{where}: {counted[position - 1][0]} and {name} have the same number; leave one out")
        if number > previous + 1:
            raise CaseError(f"{where}: {name} stands there without number {number - 1}; number them without gaps")
        previous = number
    return ordered


def nearest_name(key: str) -> tuple[str, PictureRole]:
    """Of the names under which pictures are read, the one that is most like `key`, and its role."""
    names = [name for role in ("references", "target") for name in ALIASES[role] if name not in ALSO_WORDS]  # type: ignore[index]
    name, *_ = process.extractOne(key.lower(), names, scorer=fuzz.ratio)
    return name, _ROLES[name]


def without_role(key: str, picture: str, where: str) -> CaseError:
    name, role = nearest_name(key)
    return CaseError(
        f"{where}: {key!r:.60} holds a picture ({picture:.80}), and no picture is read under that name; the nearest "
        f"is {name!r}, for {ALIASES[role][0]}. Rename it, or take it out"
    )


def _states_role(record: Mapping[str, Any], key: str, role: PictureRole) -> bool:
    found = role_of(key)
    stated = found is not None and found.role == role and found.stem not in ALSO_WORDS
    return stated and record[key] not in NOTHING


def _is_there(folder: Path, picture: str) -> bool:
    try:
        return (folder / picture).exists()
    except (OSError, ValueError):
        return False


def _items(value: Any) -> list[Any]:
    items = value if isinstance(value, list) else [value]
    return [item.strip() if isinstance(item, str) else item for item in items]
