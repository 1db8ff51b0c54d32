"""A folder of captions and pictures: x.txt is the prompt, x.png beside it the target, x.source.png what an edit
starts from. Folders may say the same: target/x.txt, target/x.png and control/x.png."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fewstep.data.cases import (
    UNCATEGORISED,
    CaseOrError,
    case_of,
)
from fewstep.data.formats.lines import text_of
from fewstep.data.key_roles import KeyRole, in_order, role_of, without_role
from fewstep.data.picture_values import SUFFIXES, UNREAD_SUFFIXES
from fewstep.runtime.errors import CaseError

# x.source.png, x_source.png; several in the order of their numbers: x.source-1.png, x_source_2.png
_SOURCE = re.compile(r"(?P<key>.+)[._-](?P<name>(?:source|reference)[._-]?\d*)")
_NAMED = re.compile(r"(?P<key>.+?)\.(?P<name>[^.].*)")  # x.input_2.png, with any name of `key_roles`


class Belonging(NamedTuple):
    """What lies beside one caption. in_folders: whether a reference lies in a folder of its own."""

    targets: list[Path]
    sources: dict[Path, KeyRole]
    in_folders: bool = False


def pairs(folder: Path, thorough: bool) -> Iterator[CaseOrError]:
    """One case for each .txt, sub-folders too; the first sub-folder's name is the category. A picture that belongs to
    no caption is an error."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    captions = {path.with_suffix(""): path for path in files if path.suffix.lower() == ".txt"}
    pictures = [path for path in files if path.suffix.lower() in (*SUFFIXES, *UNREAD_SUFFIXES)]
    held, alone = _belonging(folder, pictures, captions)
    if not captions and not alone:
        raise CaseError(f"{folder}: no caption in this folder; it holds x.txt beside x.png, or a metadata.jsonl")
    for key, caption in captions.items():
        try:
            yield _case(folder, caption, held[key], thorough)
        except CaseError as error:
            yield error
    for picture in alone:
        yield _without_caption(picture, captions)


def _case(folder: Path, caption: Path, held: Belonging, thorough: bool) -> CaseOrError:
    where = f"{caption}:1"
    for picture in (*held.targets, *held.sources):
        if picture.suffix.lower() in UNREAD_SUFFIXES:
            raise CaseError(f"{where}: {picture} is a picture of a kind that is not read in folders; save it as PNG")
    if len(held.targets) > 1:
        raise CaseError(
            f"{where}: {held.targets[0].name} and {held.targets[1].name} both stand beside it; take one away"
        )
    name = caption.relative_to(folder).with_suffix("")
    above = [part for part in name.parts[:-1] if not (held.in_folders and _role_of_folder(part) == "target")]
    record = {
        "prompt": text_of(caption),
        "category": above[0] if above else UNCATEGORISED,
        "reference_images": _sources(held.sources, caption.parent, where),
        "target_image": os.path.relpath(held.targets[0], caption.parent) if held.targets else None,
    }
    return case_of(record, caption.parent, where, name.as_posix(), thorough)


def _sources(sources: dict[Path, KeyRole], beside: Path, where: str) -> list[str]:
    """In the order of their numbers.

    Raises:
        CaseError: a number twice or left out, or pictures under two names: nothing says which one is meant.
    """
    paths = {os.path.relpath(path, beside): role for path, role in sources.items()}
    stems = {role.stem: path for path, role in paths.items()}
    if len(stems) > 1:
        raise CaseError(f"{where}: {' and '.join(stems.values())} have different names; give them one, with numbers")
    return in_order({path: role.number for path, role in paths.items()}, where)


def _belonging(
    folder: Path, pictures: list[Path], captions: dict[Path, Path]
) -> tuple[dict[Path, Belonging], list[Path]]:
    """What belongs to each caption, and to none. A picture with a caption of its own name is a target, whatever its
    name looks like."""
    held = {key: Belonging([], {}) for key in captions}
    by_place: dict[Path, list[Path]] = {}
    for key in captions:
        by_place.setdefault(_without_target_folders(key.relative_to(folder)), []).append(key)
    alone = []
    for picture in pictures:
        if picture.with_suffix("") in captions:
            held[picture.with_suffix("")].targets.append(picture)
        elif (named := _named(picture, captions)) is not None:
            key, role = named
            if role.role == "target":
                held[key].targets.append(picture)
            else:
                held[key].sources[picture] = role
        elif (placed := _placed(picture.relative_to(folder), by_place)) is not None:
            key, role = placed
            held[key].sources[picture] = role
            held[key] = held[key]._replace(in_folders=True)
        else:
            alone.append(picture)
    return held, alone


def _named(picture: Path, captions: dict[Path, Path]) -> tuple[Path, KeyRole] | None:
    """The caption and the role that the picture's own name says."""
    for pattern in (_SOURCE, _NAMED):
        match = pattern.fullmatch(picture.stem)
        role = role_of(match["name"]) if match else None
        if match and role is not None and role.role != "prompt" and picture.parent / match["key"] in captions:
            return picture.parent / match["key"], role
    return None


def _placed(picture: Path, captions: dict[Path, list[Path]]) -> tuple[Path, KeyRole] | None:
    """The caption of the same name and the role that a folder above the picture says: control/x.png belongs to
    target/x.txt, or to x.txt beside the folder."""
    for i, part in enumerate(picture.parts[:-1]):
        role = role_of(part)
        if role is not None and role.role == "references":
            found = captions.get(Path(*picture.parts[:i], *picture.parts[i + 1 :]).with_suffix(""), [])
            return (found[0], role) if len(found) == 1 else None
    return None


def _without_target_folders(key: Path) -> Path:
    return Path(*(part for part in key.parts[:-1] if _role_of_folder(part) != "target"), key.name)


def _role_of_folder(name: str) -> str | None:
    role = role_of(name)
    return None if role is None else role.role


def _without_caption(picture: Path, captions: dict[Path, Path]) -> CaseError:
    match = _NAMED.fullmatch(picture.stem)
    if match and picture.parent / match["key"] in captions:
        return without_role(match["name"], picture.name, str(picture))
    return CaseError(f"{picture}: no caption {picture.stem}.txt beside it; write one, or take the picture away")
