"""Where cases come from: files, folders and archives in the formats that people have, and sources with a scheme."""

import glob
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fewstep.data.case_formats import CASE_FORMATS, ending_of, format_of
from fewstep.data.case_sources import CASE_SOURCES, scheme_of
from fewstep.data.cases import (
    Case,
    CaseOrError,
    distinct,
    write_jsonl,
)
from fewstep.data.composition import Composition
from fewstep.data.formats.format import ArchiveFormat, OnRead
from fewstep.data.formats.pairs import pairs
from fewstep.data.mixture import (
    Ratio,
    used_tasks,
)
from fewstep.data.phases import Phases, zip_phases
from fewstep.data.plan import DataPlan
from fewstep.data.streams import (
    Stream,
    by_category,
    by_source,
)
from fewstep.runtime import durable
from fewstep.runtime.errors import CaseError, RecipeError
from fewstep.runtime.task import Task

SHOWN = 5  # problems named in one message
UNPACKED = 1  # raise it when archives are unpacked differently than before
METADATA = ("metadata.jsonl", "metadata.csv")  # what Hugging Face's image folders say about their pictures


def read_source(source: str, task: Task, cache: Path) -> list[Case]:
    """The source's cases of one task. `cache` is the folder for pictures out of archives, and for what a case source
    makes.

    Raises:
        CaseError: the source is missing, has bad lines (the first ones named), or none of this task.
        PluginError: a case source or a format of another package cannot be used.
    """
    found = cases_of(distinct(_of_all(_files_of(source, task, cache), lambda path: _cached(path, cache))), source)
    cases = [case for case in found if case.task == task]
    if not cases:
        raise CaseError(
            f"{source}: no {task} case in it; name another source under data.{task}, or set tasks.{task} to 0"
        )
    return cases


def entries_of(
    source: str, unpack_to: Path, thorough: bool = False, on_file: Callable[[Path], object] = lambda path: None
) -> Iterator[CaseOrError]:
    """All cases and errors of a source, of both tasks; `thorough` reads pictures whole. on_file: told of each file or
    folder before its first entry.

    Raises:
        CaseError: the source itself cannot be read.
        PluginError: as `read_source`.
    """

    def read_one(path: Path) -> Iterator[CaseOrError]:
        on_file(path)
        return entries(path, unpack_to, thorough)

    return iter(distinct(_of_all(_files_of(source, None, unpack_to), read_one)))


def _files_of(source: str, task: Task | None, cache: Path) -> list[Path]:
    made = CASE_SOURCES.find(scheme_of(source) or "")
    return paths_of(source) if made is None else [made(source, task, cache)]


def entries(
    path: Path, unpack_to: Path | None = None, thorough: bool = False, on_read: OnRead | None = None
) -> Iterator[CaseOrError]:
    """All cases and errors of a file or folder, in order. Archives need a folder to unpack their pictures to. on_read:
    of archives whose format can be watched.

    Raises:
        CaseError: the file itself cannot be read.
        PluginError: as `read_source`.
    """
    if path.is_dir():
        stated = next((path / name for name in METADATA if (path / name).is_file()), None)
        return iter(distinct(pairs(path, thorough))) if stated is None else entries(stated, unpack_to, thorough)
    found = format_of(path)
    if found is None:
        raise _unreadable(path)
    if isinstance(found, ArchiveFormat):
        assert unpack_to is not None, path
        if on_read is not None and found.watched is not None:
            return iter(distinct(found.watched(path, unpack_to, thorough, on_read)))
        return iter(distinct(found.read(path, unpack_to, thorough)))
    return iter(distinct(found.read(path, thorough)))


def _unreadable(path: Path) -> CaseError:
    if not path.exists():
        return CaseError(f"{path}: there is no such file or folder; name one that is there")
    known = ", ".join(f".{ending}" for ending in CASE_FORMATS.names())
    return CaseError(
        f"{path}: cases come as {known} (.txt with one prompt a line), or as a folder of pictures with captions, "
        f"not as {path.suffix.lower() or 'a file without a suffix'!r}"
    )


def paths_of(source: str) -> list[Path]:
    """The files that a source names: one, or all that match a pattern such as shards/*.tar, in order.

    Raises:
        CaseError: a pattern that matches nothing, or a scheme that no case source has.
    """
    try:
        there = Path(source).exists()
    except OSError as error:  # a name too long for a file system
        raise CaseError(f"{source:.80}: cannot be read ({error.strerror}); name a file that is there") from error
    if there:
        return [_named_in_utf8(Path(source))]
    fitting = glob.glob(source, recursive=True) if glob.has_magic(source) else []
    found = sorted(_named_in_utf8(Path(name)) for name in fitting)
    if not found and scheme_of(source):
        raise CaseError(
            f"{source}: there is no such file, and no case source '{scheme_of(source)}' in this installation, which "
            f"has {', '.join(CASE_SOURCES.names()) or 'none'}. Install the package that offers it; if it is one of "
            "fewstep's own, install fewstep again"
        )
    if not found and glob.has_magic(source):
        raise CaseError(f"{source}: no file fits this pattern; name files that are there")
    return found or [Path(source)]


def _named_in_utf8(path: Path) -> Path:
    """The path: cases are written down with it."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise CaseError(f"{path}: the name is not UTF-8; rename the file or its folder") from error
    return path


def _of_all(paths: Sequence[Path], read_one: Callable[[Path], Iterable[CaseOrError]]) -> Iterator[CaseOrError]:
    """The entries of several files. Each file counts its lines or members from the beginning. So names made from the
    place are prefixed with the file's own, from where the paths differ."""
    if len(paths) == 1:
        yield from read_one(paths[0])
        return
    above = Path(os.path.commonpath([path.parent for path in paths]))
    for path in paths:
        name = path.relative_to(above).as_posix().removesuffix(ending_of(path))
        by_place = path.is_dir() or isinstance(format_of(path), ArchiveFormat)
        for entry in read_one(path):
            if isinstance(entry, Case) and (by_place or _by_line(entry, path)):
                entry = replace(entry, id=f"{name}/{_number(entry.id, path)}")
            yield entry


def _by_line(case: Case, path: Path) -> bool:
    """Whether a case is named by its place: readers of lines name it after the file's stem and the line."""
    return case.id.startswith(f"{path.stem}-") and _number(case.id, path).isdecimal()


def _number(name: str, path: Path) -> str:
    return name.removeprefix(f"{path.stem}-")


def cases_of(found: Iterable[CaseOrError], source: str) -> list[Case]:
    """The entries, all of which have to be cases.

    Raises:
        CaseError: names the first entries that are not, and how many more there are.
    """
    cases: list[Case] = []
    problems: list[str] = []
    for entry in found:
        if isinstance(entry, Case):
            cases.append(entry)
        else:
            problems.append(str(entry))
    if problems:
        more = f"\n... and {len(problems) - SHOWN} more: fewstep cases check {source}" if len(problems) > SHOWN else ""
        raise CaseError("\n".join(problems[:SHOWN]) + more)
    return cases


def _cached(path: Path, cache: Path) -> Iterator[CaseOrError]:
    """As `entries`, but an archive is unpacked once and read from there as long as it does not change."""
    if not path.is_file() or not isinstance(format_of(path), ArchiveFormat):
        return entries(path, cache)
    stat = path.stat()
    mark = hashlib.blake2b(repr((UNPACKED, path.resolve(), stat.st_size, stat.st_mtime_ns)).encode(), digest_size=8)
    folder = cache / f"{path.stem}-{mark.hexdigest()}"
    if not (folder / "cases.jsonl").exists():
        durable.make_folder(folder)
        write_jsonl(folder / "cases.jsonl", cases_of(entries(path, folder / "pictures"), str(path)))
    return entries(folder / "cases.jsonl")


def build_composition(data: DataPlan, mixture: Phases[Ratio], cache: Path) -> Composition:
    """The sources of every task that has batches, read and cut into streams. Pictures from archives and from the pocket
    world go into `cache`.

    Raises:
        CaseError: a source that cannot be used.
        RecipeError: no source for a task, or a share for a category that no source has.
    """
    return Composition(mixture, {task: task_streams(data, task, cache) for task in used_tasks(mixture)})


def task_streams(data: DataPlan, task: Task, cache: Path) -> Phases[tuple[Stream, ...]]:
    """The streams that the `data` section gives one task.

    Raises:
        CaseError, RecipeError: as `build_composition`.
    """
    plans = data.sources(task)
    if not plans:
        raise RecipeError(f"data.{task} names no source; name one, or set tasks.{task} to 0")
    sources = [[_labelled(case, plan.category) for case in read_source(plan.source, task, cache)] for plan in plans]
    phases = zip_phases(data.source_weights(task), data.category_shares(task))
    cut = [_cut(task, sources, weights, shares, data.name_of_shares(task)) for weights, shares in phases.values]
    return Phases(tuple(map(tuple, cut)), phases.ends)


def _cut(
    task: Task, sources: Sequence[Sequence[Case]], weights: Sequence[int], shares: Mapping[str, int], where: str
) -> list[Stream]:
    if not shares:
        return by_source(task, sources, weights)
    return by_category(task, sources, weights, shares, where)


def _labelled(case: Case, category: str | None) -> Case:
    return case if category is None else replace(case, category=category)
