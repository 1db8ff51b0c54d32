"""WebDataset: a tar in which members that share a name up to its first dot are one sample.

    x.txt (or x.caption, x.prompt)    the prompt            x.png         the target
    x.json                            any keys of a case    x.source.png  the reference of an edit (x.source1.png, ...)

Read with tarfile, in order, one sample in memory at a time. The shuffling and decoding of the webdataset package are
not wanted here, and tarfile tells links and devices from files.
"""

import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from fewstep.data.cases import (
    ALIASES,
    CaseOrError,
    case_of,
)
from fewstep.data.formats.extracted import MAX_BYTES, save_picture
from fewstep.data.formats.lines import record_of_json
from fewstep.data.pictures import SUFFIXES
from fewstep.runtime.errors import CaseError

TORN = (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError)
TEXTS = {"txt": "text", **{name: name for name in ALIASES["prompt"]}}
MAX_TEXT = 2**20  # bytes, ours
_SOURCE = re.compile(rf"(?:source|reference|{'|'.join(ALIASES['references'])})[._-]?(?P<number>\d*)")


class Member(NamedTuple):
    """One file of a sample: x.source.png has the key x and the ending source.png."""

    key: str
    ending: str
    data: bytes


def tar(path: Path, unpack_to: Path, thorough: bool) -> Iterator[CaseOrError]:
    """where: path:key.

    Raises:
        CaseError: the file cannot be read, or is torn.
        EnvironmentRefused: pictures cannot be written.
    """
    for key, members in groupby(_members(path), key=lambda member: member.key):
        where = f"{path}:{key}"
        held = list(members)
        try:
            for problem in (member for member in held if isinstance(member, RefusedMember)):
                raise CaseError(problem.reason)
            record = _record([member for member in held if isinstance(member, Member)], unpack_to, where)
            yield case_of(record, path.parent, where, key, thorough)
        except CaseError as error:
            yield error


class RefusedMember(NamedTuple):
    """A member that is not taken out of the archive."""

    key: str
    reason: str


def _members(path: Path) -> Iterator[Member | RefusedMember]:
    """The files in order, without hidden ones and those that mean nothing here."""
    last = "its beginning"
    try:
        with tarfile.open(path, "r:*") as archive:
            while (info := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # tarfile would keep every header
                name = PurePosixPath(info.name)
                key, ending = _split(name)
                last = info.name
                if info.isdir() or name.name.startswith(".") or not _wanted(ending):
                    continue
                reason = _danger(info)
                if reason:
                    yield RefusedMember(key, f"{path}:{info.name!r:.200}: {reason}")
                    continue
                stream = archive.extractfile(info)
                assert stream is not None, info.name
                yield Member(key, ending, stream.read())
            _refuse_torn(archive)
    except TORN as error:
        raise CaseError(f"{path}: torn, or no tar, at {last} ({error}); copy or write it again") from error


def _refuse_torn(archive: tarfile.TarFile) -> None:
    """tarfile takes half a header, or nothing, for the end. A whole archive ends with a block of zeros."""
    stream = archive.fileobj
    assert stream is not None
    stream.seek(archive.offset)
    if stream.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("its end is missing")


def _split(name: PurePosixPath) -> tuple[str, str]:
    base, _, ending = name.name.partition(".")
    return (name.parent / base).as_posix(), ending.lower()


def _wanted(ending: str) -> bool:
    return ending in TEXTS or ending == "json" or _is_picture(ending)


def _is_picture(ending: str) -> bool:
    return f".{ending.rpartition('.')[2]}" in SUFFIXES


def _danger(info: tarfile.TarInfo) -> str | None:
    """Why a member is not extracted. Nothing is ever written under a member's own name; an archive with such members is
    no data set."""
    name = PurePosixPath(info.name)
    if name.is_absolute() or ".." in name.parts:
        return "a member that leads out of the archive's folder; make the tar again with plain names"
    if not info.isfile():
        return "a link or a device, not a file; make the tar again with files only (tar --dereference)"
    most = MAX_BYTES if _is_picture(name.name.lower()) else MAX_TEXT
    return f"{info.size:,} bytes, more than {most:,}; make it smaller" if info.size > most else None


def _record(members: list[Member], unpack_to: Path, where: str) -> dict[str, Any]:
    """The case's keys: those of the .json, the texts, and the pictures as paths of extracted files."""
    record: dict[str, Any] = {}
    kept = {member.ending: str(_kept(member, unpack_to, where)) for member in members if _is_picture(member.ending)}
    for member in members:
        if member.ending == "json":
            stated = record_of_json(_text(member, where), where)
            record |= {name: _within(value, name, kept, where) for name, value in stated.items()}
        elif member.ending in TEXTS:
            record[TEXTS[member.ending]] = _text(member, where).strip()
    sources: list[tuple[int, str]] = []
    for ending, path in kept.items():
        role = ending.rpartition(".")[0]
        if source := _SOURCE.fullmatch(role):
            sources.append((int(source["number"] or 0), path))
        elif role == "" or role in ALIASES["target"]:
            record["target_image"] = path
    return record | ({"reference_images": [path for _, path in sorted(sources)]} if sources else {})


def _kept(member: Member, unpack_to: Path, where: str) -> Path:
    return save_picture(member.data, unpack_to, f"{where}.{member.ending}").absolute()


def _within(value: Any, name: str, kept: dict[str, str], where: str) -> Any:
    """Pictures that a .json names must be members of its sample: an archive may not point at files outside it."""
    if name not in (*ALIASES["references"], *ALIASES["target"]) or value in (None, "", []):
        return value
    if isinstance(value, list):
        return [_within(item, name, kept, where) for item in value]
    ending = PurePosixPath(str(value)).name.partition(".")[2].lower()
    if ending not in kept:
        raise CaseError(f"{where}: {name} names {value!r:.80}, which is no member of this sample; put it into the tar")
    return kept[ending]


def _text(member: Member, where: str) -> str:
    try:
        return member.data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CaseError(f"{where}.{member.ending}: not UTF-8 at byte {error.start + 1}; save it as UTF-8") from error
