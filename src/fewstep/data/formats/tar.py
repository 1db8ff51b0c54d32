"""WebDataset: a tar in which members that share a name up to its first dot are one sample.

    x.txt (or x.caption, x.prompt)    the prompt            x.png         the target
    x.json                            any keys of a case    x.source.png  the reference of an edit (x.source1.png, ...)

Between the first dot and the last stands a name of `key_roles`: x.input.png and x.output.png are an edit.

Read with tarfile, in order, one sample in memory at a time: what the webdataset package adds (shuffling, decoding)
is not wanted here, and tarfile tells links and devices from files.
"""

import io
import lzma
import tarfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from fewstep.data.cases import STATED, CaseOrError, case_of
from fewstep.data.formats.extracted import MAX_BYTES, save_picture
from fewstep.data.formats.format import OnRead
from fewstep.data.formats.lines import record_of_json
from fewstep.data.key_roles import ALIASES, ALSO_WORDS, NOTHING, in_order, is_picture_name, role_of, without_role
from fewstep.data.picture_values import SUFFIXES, UNREAD_SUFFIXES, pictures_in
from fewstep.runtime.errors import CaseError

TORN = (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError)
TEXTS = {"txt": "text", **{name: name for name in ALIASES["prompt"]}}
MAX_TEXT = 2**20  # bytes, ours


class Member(NamedTuple):
    """One file of a sample: x.source.png has the key x and the ending source.png."""

    key: str
    ending: str
    data: bytes


def tar(path: Path, unpack_to: Path, thorough: bool, on_read: OnRead = lambda: None) -> Iterator[CaseOrError]:
    """where: path:key. on_read: is called for every few kilobytes of the file, also while members are passed over.

    Raises:
        CaseError: the file cannot be read, or is torn.
        EnvironmentRefused: pictures cannot be written.
    """
    for key, members in groupby(_members(path, on_read), key=lambda member: member.key):
        where = f"{path}:{key}"
        held = list(members)
        try:
            for problem in (member for member in held if isinstance(member, RefusedMember)):
                raise CaseError(problem.reason)
            record = _record([member for member in held if isinstance(member, Member)], unpack_to, where)
            yield case_of(record, path.parent, where, key, thorough)
        except CaseError as error:
            yield error


class _WatchedFile(io.FileIO):
    """Tells of each read."""

    def __init__(self, path: Path, on_read: OnRead):
        super().__init__(path)
        self.on_read = on_read

    def readinto(self, buffer: Any, /) -> int | None:
        self.on_read()
        return super().readinto(buffer)


class RefusedMember(NamedTuple):
    """A member that is not taken out of the archive."""

    key: str
    reason: str


def _members(path: Path, on_read: OnRead) -> Iterator[Member | RefusedMember]:
    """The files in order, without hidden ones and those that mean nothing here."""
    last = "its beginning"
    try:
        with (
            io.BufferedReader(_WatchedFile(path, on_read)) as file,
            tarfile.open(fileobj=file, mode="r:*") as archive,
        ):
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
    return ending in TEXTS or ending == "json" or _is_picture(ending) or _is_unread(ending)


def _is_picture(ending: str) -> bool:
    return f".{ending.rpartition('.')[2]}" in SUFFIXES


def _is_unread(ending: str) -> bool:
    return f".{ending.rpartition('.')[2]}" in UNREAD_SUFFIXES


def _danger(info: tarfile.TarInfo) -> str | None:
    """Why a member is not extracted. Nothing is ever written under a member's own name; an archive with such members is
    no data set."""
    name = PurePosixPath(info.name)
    if name.is_absolute() or ".." in name.parts:
        return "a member that leads out of the archive's folder; make the tar again with plain names"
    if not info.isfile():
        return "a link or a device, not a file; make the tar again with files only (tar --dereference)"
    if _is_unread(name.name.lower()):
        return f"a picture of a kind that is not read in archives; write {', '.join(SUFFIXES)}"
    most = MAX_BYTES if _is_picture(name.name.lower()) else MAX_TEXT
    return f"{info.size:,} bytes, more than {most:,}; make it smaller" if info.size > most else None


def _record(members: list[Member], unpack_to: Path, where: str) -> dict[str, Any]:
    """The case's keys: those of the .json, the texts, and the pictures as paths of kept files."""
    _refuse_doubled(members, where)
    record: dict[str, Any] = {}
    kept = {member.ending: str(_kept(member, unpack_to, where)) for member in members if _is_picture(member.ending)}
    for member in members:
        if member.ending == "json":
            stated = record_of_json(_text(member, where), where)
            record |= {name: _within(value, name, kept, where) for name, value in stated.items()}
        elif member.ending in TEXTS:
            record[TEXTS[member.ending]] = _text(member, where).strip()
    return _with_pictures(record, kept, where)


def _refuse_doubled(members: list[Member], where: str) -> None:
    endings = [member.ending for member in members]
    for ending in endings:
        if endings.count(ending) > 1:
            raise CaseError(f"{where}: .{ending} stands there twice; take one out")


def _with_pictures(record: dict[str, Any], kept: Mapping[str, str], where: str) -> dict[str, Any]:
    """The record with the pictures that members bring by their names. Each picture of the sample has a role."""
    targets, numbers = [], {}
    for ending in kept:
        name = ending.rpartition(".")[0]
        role = role_of(name)
        if name == "" or (role is not None and role.role == "target"):
            targets.append(ending)
        elif role is not None and role.role == "references":
            numbers[ending] = role.number
    if len(targets) > 1:
        raise CaseError(f"{where}: .{targets[0]} and .{targets[1]} are both the target; take one out")
    sources = [kept[ending] for ending in in_order(numbers, where)]
    _refuse_unused(record, kept, {*targets, *numbers}, where)
    found = {ALIASES["references"][0]: sources, ALIASES["target"][0]: [kept[ending] for ending in targets]}
    for name, pictures in found.items():
        if pictures and record.get(name) not in NOTHING and _listed(record[name]) != pictures:
            raise CaseError(f"{where}: its .json and its members disagree about {name}; say it in one place")
    return record | {name: pictures for name, pictures in found.items() if pictures}


def _refuse_unused(record: Mapping[str, Any], kept: Mapping[str, str], used: Collection[str], where: str) -> None:
    stated = [path for name, value in record.items() if is_picture_name(name) for path in _listed(value)]
    for ending, path in kept.items():
        if ending not in used and path not in stated:
            raise without_role(ending.rpartition(".")[0], f".{ending}", where)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _kept(member: Member, unpack_to: Path, where: str) -> Path:
    return save_picture(member.data, unpack_to, f"{where}.{member.ending}").absolute()


def _within(value: Any, name: str, kept: Mapping[str, str], where: str) -> Any:
    """Pictures that a .json names are members of its sample: an archive does not point at files outside it. So a name
    of a file under a key that means nothing is no picture."""
    role = role_of(name)
    if role is None:
        return value if name in STATED else None
    if role.role == "prompt" or value in NOTHING:
        return value
    if isinstance(value, list):
        return [_within(item, name, kept, where) for item in value]
    ending = PurePosixPath(str(value)).name.partition(".")[2].lower()
    if ending in kept:
        return kept[ending]
    if role.stem in ALSO_WORDS and not pictures_in(value):
        return value
    raise CaseError(f"{where}: {name} names {value!r:.80}, which is no member of this sample; put it into the tar")


def _text(member: Member, where: str) -> str:
    try:
        return member.data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CaseError(f"{where}.{member.ending}: not UTF-8 at byte {error.start + 1}; save it as UTF-8") from error
