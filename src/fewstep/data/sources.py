"""Where cases come from: .jsonl files, .txt files with one prompt a line, and the pocket world.

Each format is one function from a path to entries, an entry being a case or the error in its place: so one reader
serves both a run, which stops at errors, and `check`, which counts them. A further format is a further function.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from fewstep import durable
from fewstep.data.cases import Case, case_of, distinct, prompt_of, record_of
from fewstep.data.mixture import TASKS, Task
from fewstep.data.plan import DataPlan
from fewstep.data.streams import Stream, by_category, by_source
from fewstep.errors import CaseError, RecipeError
from fewstep.pocket.cases import PocketCase, edit_case, t2i_case

SHOWN = 5  # problems named in one message
POCKET = "pocket:"
POCKET_SEED = 0
POCKET_LIMIT = 1_000_000
UTF16 = (b"\xff\xfe", b"\xfe\xff")

Entry = Case | CaseError


def read(source: str, task: Task, cache: Path) -> list[Case]:
    """The source's cases of one task. `cache` is the folder that pocket cases are drawn into.

    Raises:
        CaseError: the source is missing, has bad lines (the first ones named), or none of this task.
    """
    path = pocket_file(source, task, cache) if source.startswith(POCKET) else Path(source)
    found = list(entries(path))
    problems = [str(entry) for entry in found if isinstance(entry, CaseError)]
    if problems:
        more = f"\n... and {len(problems) - SHOWN} more: fewstep cases check {path}" if len(problems) > SHOWN else ""
        raise CaseError("\n".join(problems[:SHOWN]) + more)
    cases = [entry for entry in found if isinstance(entry, Case) and entry.task == task]
    if not cases:
        raise CaseError(
            f"{path}: no {task} case in it; name another source under data.{task}, or set tasks.{task} to 0"
        )
    return cases


def streams(data: DataPlan, task: Task, cache: Path) -> list[Stream]:
    """What a recipe's `data` section gives one task: its sources read, and cut into streams with whole shares.

    Raises:
        CaseError: as `read`.
        RecipeError: no source for the task, or a category weight for a category that no source has.
    """
    plans = data.sources(task)
    if not plans:
        raise RecipeError(f"data.{task} names no source; name one, or set tasks.{task} to 0")
    sources = [[_labelled(case, plan.category) for case in read(plan.source, task, cache)] for plan in plans]
    shares = [plan.weight for plan in plans]
    categories = data.weights(task)
    return by_category(task, sources, shares, categories) if categories else by_source(task, sources, shares)


def _labelled(case: Case, category: str | None) -> Case:
    return case if category is None else replace(case, category=category)


def entries(path: Path, thorough: bool = False) -> Iterator[Entry]:
    """All cases and errors of a file, in order; `thorough` reads its pictures whole.

    Raises:
        CaseError: the file itself cannot be read.
    """
    match path.suffix.lower():
        case ".jsonl" | ".ndjson":
            return iter(distinct(_jsonl(path, thorough)))
        case ".txt":
            return iter(distinct(_txt(path)))
        case suffix:
            raise CaseError(
                f"{path}: cases come as .jsonl, or as .txt with one prompt a line, not as {suffix or 'a folder'!r}"
            )


def write_jsonl(path: Path, cases: list[Case]) -> None:
    """The canonical file, whole or absent."""
    records = (json.dumps(record_of(case, path.parent), ensure_ascii=False) for case in cases)
    durable.write(path, "".join(f"{line}\n" for line in records))


def pocket_file(source: str, task: Task, cache: Path) -> Path:
    """The canonical file of `pocket:TASK:N`: the first N training cases of the pocket world, drawn into `cache` where
    they are not there yet. References are PNG files; the cases file is written last and makes the folder whole. The
    folder's name changes with the world, so that cases of an older one are not taken for today's."""
    count = _pocket_count(source, task)
    draw = partial(t2i_case if task == "t2i" else edit_case, POCKET_SEED, split="train")
    folder = cache / f"pocket-{task}-{count}-{_mark(draw)}"
    path = folder / "cases.jsonl"
    if not path.exists():
        durable.make_folder(folder / "references")
        write_jsonl(path, [_drawn(draw(index), folder, path) for index in range(count)])
    return path


def _mark(draw: Callable[[int], PocketCase]) -> str:
    """A short hash of the first cases, every kind of edit among them."""
    mark = hashlib.blake2b(digest_size=4)
    for case in map(draw, range(6)):
        mark.update(case.prompt.encode())
        mark.update(b"".join(picture.tobytes() for picture in case.references))
    return mark.hexdigest()


def _pocket_count(source: str, task: Task) -> int:
    parts = source.split(":")
    if len(parts) != 3 or parts[1] not in TASKS or not parts[2].isdecimal():
        raise CaseError(f"{source}: pocket sources read pocket:t2i:N or pocket:edit:N, such as pocket:{task}:3000")
    if parts[1] != task:
        raise CaseError(f"{source} stands under data.{task}; move it, or write pocket:{task}:{parts[2]}")
    if not 0 < int(parts[2]) <= POCKET_LIMIT:
        raise CaseError(f"{source}: ask for 1 to {POCKET_LIMIT:,} cases")
    return int(parts[2])


def _drawn(drawn: PocketCase, folder: Path, path: Path) -> Case:
    """The case, its references on disk."""
    references = []
    for number, picture in enumerate(drawn.references):
        reference = folder / "references" / f"{drawn.id}-{number}.png"
        if not reference.exists():
            durable.replace_by(reference, partial(_save, picture))
        references.append(reference)
    task: Task = "edit" if references else "t2i"
    return Case(drawn.id, task, drawn.prompt, drawn.category, tuple(references), source="pocket", where=str(path))


def _save(picture: Image.Image, path: Path) -> None:
    picture.save(path, format="PNG")


def _jsonl(path: Path, thorough: bool) -> Iterator[Entry]:
    for number, line in _lines(path):
        where = f"{path}:{number}"
        if isinstance(line, CaseError):
            yield line
            continue
        try:
            record = _record(line, where)
            yield case_of(record, path.parent, where, f"{path.stem}-{number}", thorough)
        except CaseError as error:
            yield error


def _txt(path: Path) -> Iterator[Entry]:
    for number, line in _lines(path):
        where = f"{path}:{number}"
        try:
            if isinstance(line, CaseError):
                raise line
            yield Case(f"{path.stem}-{number}", "t2i", prompt_of(line, where), where=where)
        except CaseError as error:
            yield error


def _lines(path: Path) -> Iterator[tuple[int, str | CaseError]]:
    """Numbered lines that are not blank; an error where one is not UTF-8.

    Raises:
        CaseError: no such file, unreadable, or of another encoding as a whole.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CaseError(f"{path}: cannot be read ({error.strerror}); name a file that is there") from error
    if data.startswith(UTF16):
        raise CaseError(f"{path}: is UTF-16; save it as UTF-8")
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            yield (
                number,
                CaseError(
                    f"{path}:{number}: byte {error.start + 1} of the line (0x{line[error.start]:02x}) is not UTF-8; "
                    "save the whole file as UTF-8"
                ),
            )
            continue
        if text:
            yield number, text


def _record(line: str, where: str) -> dict[str, Any]:
    """One line's JSON object, without doubled keys or numbers that JSON does not have."""
    try:
        record = json.loads(line, object_pairs_hook=_once, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        if line.startswith("[") and where.endswith(":1"):
            raise CaseError(f"{where}: the file is one JSON array; write one object a line (JSON Lines)") from error
        raise CaseError(f"{where}: torn or no JSON at column {error.colno} ({error.msg}); mend or remove it") from error
    except (ValueError, RecursionError) as error:
        raise CaseError(f"{where}: {error or 'nested too deeply'}; mend or remove the line") from error
    if not isinstance(record, dict):
        raise CaseError(f"{where}: a line holds one object in braces, not {line:.40}")
    return record


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        twice = next(key for key in record if sum(key == other for other, _ in pairs) > 1)
        raise ValueError(f"key {twice!r:.60} stands there twice")
    return record


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
