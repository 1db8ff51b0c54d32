"""A gallery of pictures made elsewhere. Files are matched to a suite's cases by a declared pattern and checked before
anything is written."""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from fewstep.bench.gallery import Gallery, begin_gallery
from fewstep.bench.suite import Question, Suite
from fewstep.bench.suites import copy_into_gallery
from fewstep.data.pictures import open_picture
from fewstep.runtime.errors import CaseError, GalleryError

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
FIELDS = {"case", "k", "seed"}
SHOWN = 10  # problems of one kind in a message

_Place = tuple[str, int]  # case and k


@dataclass(frozen=True)
class FolderPictures:
    """The pictures of a suite found in a folder. missing: file names that were looked for; problems: files that cannot
    be used."""

    files: Mapping[_Place, Path]
    missing: Mapping[_Place, str]
    problems: tuple[str, ...]


def adopt(
    folder: Path,
    suite: Suite,
    to: Path,
    *,
    system: str | None = None,
    names: str | None = None,
    table: Path | None = None,
    allow_missing: bool = False,
    told: Callable[[int], object] = lambda count: None,
) -> Gallery:
    """Writes the gallery.

    Args:
        names: a pattern of file names with {case}, and {k} or {seed}.
        table: a CSV file with the columns file, case and k, in place of `names`.
        told: called with 1 for every picture taken over.

    Raises:
        GalleryError: unknown names, missing pictures (unless allowed: then they are failed rows), sizes other than the
            suite's, or torn files. All of them are named, and nothing is written.
    """
    expected = _of_table(table, suite) if table else expected_names(suite, names)
    found = find_pictures(folder, suite, expected)
    _refuse(folder, suite, found, allow_missing)
    gallery = begin_gallery(to, system or folder.resolve().name, suite.identity, {"fingerprint": None}, "adopted")
    copy_into_gallery(suite, to)
    for question in suite.questions:
        for k, seed in enumerate(question.seeds):
            _take(gallery, question, k, seed, found)
            told(1)
    return gallery


def expected_names(suite: Suite, names: str | None) -> dict[str, _Place]:
    """File name -> case and k, for every picture of the suite.

    Raises:
        GalleryError: a pattern with other fields, or one that gives two pictures the same name.
    """
    pattern = names or ("{case}.png" if suite.seeds == 1 else "{case}_{k}.png")
    fields = set(re.findall(r"{(\w*)}", pattern))
    if not fields <= FIELDS or "case" not in fields or (suite.seeds > 1 and fields == {"case"}):
        need = "{case}" if suite.seeds == 1 else f"{{case}} and {{k}} (or {{seed}}): {suite.seeds} seeds a case"
        raise GalleryError(f"--names {pattern}: a pattern for {suite.name} holds {need}, such as '{{case}}_{{k}}.png'")
    found: dict[str, _Place] = {}
    for question in suite.questions:
        for k, seed in enumerate(question.seeds):
            name = pattern.replace("{k}", str(k)).replace("{seed}", str(seed)).replace("{case}", question.case.id)
            if found.setdefault(name, (question.case.id, k)) != (question.case.id, k):
                raise GalleryError(f"--names {pattern}: {name} would be two pictures; give a CSV file with --map")
    return found


def find_pictures(folder: Path, suite: Suite, expected: Mapping[str, _Place]) -> FolderPictures:
    """Which of the expected pictures are there. Every picture is read whole."""
    if not folder.is_dir():
        raise GalleryError(f"there is no folder {folder}; name the one that holds the pictures")
    there = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    foreign = [name for name, path in there.items() if name not in expected and path.suffix.lower() in PICTURES]
    problems = [f"{name}: no picture of this suite has that name" for name in foreign]
    sizes = {question.case.id: _size(question, suite) for question in suite.questions}
    files: dict[_Place, Path] = {}
    for name, place in expected.items():
        if name in there:
            files[place] = there[name]
            problems += _wrong(there[name], name, sizes[place[0]])
    missing = {place: name for name, place in expected.items() if name not in there}
    return FolderPictures(files, missing, tuple(problems))


def _size(question: Question, suite: Suite) -> tuple[int, int] | None:
    case = question.case
    return suite.size if case.height is None or case.width is None else (case.height, case.width)


def _wrong(path: Path, name: str, size: tuple[int, int] | None) -> list[str]:
    try:
        picture = open_picture(path, name)
    except CaseError as error:
        return [str(error)]
    if size is not None and (picture.height, picture.width) != size:
        return [f"{name}: {picture.height} x {picture.width} px, and the suite asks for {size[0]} x {size[1]}"]
    return []


def _refuse(folder: Path, suite: Suite, found: FolderPictures, allow_missing: bool) -> None:
    told = [_listed(found.problems, "cannot be used")] if found.problems else []
    if found.missing and not allow_missing:
        told.append(_listed(list(found.missing.values()), "are missing (--allow-missing makes them failed rows)"))
    if not found.files and not told:
        told.append("not one of the suite's pictures is there")
    if told:
        raise GalleryError(f"{folder} is no whole answer to {suite.name}; nothing was written.\n" + "\n".join(told))


def _listed(names: Sequence[str], what: str) -> str:
    more = f"\n  ... and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} {what}:\n  " + "\n  ".join(names[:SHOWN]) + more


def _take(gallery: Gallery, question: Question, k: int, seed: int, found: FolderPictures) -> None:
    case = question.case
    facts: dict[str, Any] = {"k": k, "prompt": case.prompt, "task": case.task, "category": case.category}
    if (case.id, k) in found.missing:
        gallery.fail(case.id, seed, f"no file {found.missing[case.id, k]}", facts)
    elif (case.id, seed) not in gallery:
        path = found.files[case.id, k]
        picture: Image.Image = open_picture(path, path.name)
        facts |= {"from": path.name, "size": [picture.height, picture.width], "nfe": None, "seconds": None}
        gallery.add(case.id, seed, picture, facts)


def _of_table(path: Path, suite: Suite) -> dict[str, _Place]:
    """File name -> case and k, from a CSV file.

    Raises:
        GalleryError: not readable, without these columns, or with cases or seeds that the suite does not have.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise GalleryError(
            f"{path} cannot be read as CSV ({error}); give a file with the columns file,case,k"
        ) from error
    cases = {question.case.id for question in suite.questions}
    found: dict[str, _Place] = {}
    for number, row in enumerate(rows, start=2):
        name, case, k = row.get("file"), row.get("case"), row.get("k") or "0"
        if not name or not case:
            raise GalleryError(
                f"{path}:{number}: a line has file, case and k; columns here: {', '.join(map(str, row))}"
            )
        if case not in cases or not k.isdecimal() or int(k) >= suite.seeds:
            raise GalleryError(f"{path}:{number}: {suite.name} has no case {case!r} with k {k}; k counts from 0")
        if found.setdefault(name, (case, int(k))) != (case, int(k)):
            raise GalleryError(f"{path}:{number}: {name} stands for two pictures")
    if len(set(found.values())) < len(found):
        raise GalleryError(f"{path}: two files for one picture; remove a line")
    named = set(found.values())
    absent = [(q.case.id, k) for q in suite.questions for k in range(suite.seeds) if (q.case.id, k) not in named]
    return found | {f"(no line for {case}, k {k})": (case, k) for case, k in absent}
