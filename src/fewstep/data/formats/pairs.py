"""A folder of captions and pictures: x.txt is the prompt, x.png beside it the target, x.source.png the reference of an
edit."""

import re
from collections.abc import Iterator
from pathlib import Path

from fewstep.data.cases import (
    UNCATEGORISED,
    CaseOrError,
    case_of,
)
from fewstep.data.formats.lines import text_of
from fewstep.data.pictures import SUFFIXES
from fewstep.runtime.errors import CaseError

# x.source.png, x_source.png; several in the order of their numbers: x.source-1.png, x_source_2.png
_SOURCE = re.compile(r"(?P<key>.+)[._-](?:source|reference)[._-]?(?P<number>\d*)")


def pairs(folder: Path, thorough: bool) -> Iterator[CaseOrError]:
    """One case for each .txt, sub-folders included. The first sub-folder's name is the category. A picture without a
    caption is an error."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    captions = {path.with_suffix(""): path for path in files if path.suffix.lower() == ".txt"}
    targets, sources, alone = _belonging([path for path in files if path.suffix.lower() in SUFFIXES], set(captions))
    if not captions and not alone:
        raise CaseError(f"{folder}: no caption in this folder; it holds x.txt beside x.png, or a metadata.jsonl")
    for key, caption in captions.items():
        try:
            yield _case(folder, caption, targets.get(key, []), sources.get(key, []), thorough)
        except CaseError as error:
            yield error
    for picture in alone:
        yield CaseError(f"{picture}: no caption {picture.stem}.txt beside it; write one, or take the picture away")


def _case(folder: Path, caption: Path, targets: list[Path], sources: list[Path], thorough: bool) -> CaseOrError:
    where = f"{caption}:1"
    if len(targets) > 1:
        raise CaseError(f"{where}: {targets[0].name} and {targets[1].name} both stand beside it; take one away")
    name = caption.relative_to(folder).with_suffix("")
    record = {
        "prompt": text_of(caption),
        "category": name.parts[0] if len(name.parts) > 1 else UNCATEGORISED,
        "reference_images": [path.name for path in sources],
        "target_image": targets[0].name if targets else None,
    }
    return case_of(record, caption.parent, where, name.as_posix(), thorough)


def _belonging(
    pictures: list[Path], captioned: set[Path]
) -> tuple[dict[Path, list[Path]], dict[Path, list[Path]], list[Path]]:
    """Targets and (in order) sources by caption, and the pictures without a caption. A picture with a caption of its
    own name is a target, whatever its name looks like."""
    targets: dict[Path, list[Path]] = {}
    sources: dict[Path, list[tuple[int, Path]]] = {}
    alone = []
    for picture in pictures:
        match = _SOURCE.fullmatch(picture.stem)
        if picture.with_suffix("") in captioned:
            targets.setdefault(picture.with_suffix(""), []).append(picture)
        elif match and (key := picture.parent / match["key"]) in captioned:
            sources.setdefault(key, []).append((int(match["number"] or 0), picture))
        else:
            alone.append(picture)
    return targets, {key: [path for _, path in sorted(held)] for key, held in sources.items()}, alone
