"""How a suite lies on disk, and what its hash covers.

    suite.json      name, version, hash, task, seeds, size, licence; written last, it makes the folder a suite
    cases.jsonl     a line for each case: the canonical case of data/cases.py, and `expect` for checking an answer
    references/ targets/ regions/    the pictures that the lines name

The hash covers the questions: the cases with their expectations, the pixels of their pictures, task, seeds and size.
The name and the encoding of a PNG are not part of it.
"""

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from PIL import Image

from fewstep.bench.drafts import DraftCase, SuiteHeading
from fewstep.bench.lines import LineFields, mistyped, whole_lines
from fewstep.bench.pixels import file_hash
from fewstep.data.cases import Case, record_of
from fewstep.runtime import durable
from fewstep.runtime.errors import SuiteError
from fewstep.runtime.strict_json import load_json
from fewstep.runtime.task import Task

FORMAT = 1
HEADING, CASES = "suite.json", "cases.jsonl"
ID = re.compile(r"\w[\w.-]{0,150}")  # ids become file names
CaseRecord = dict[str, Any]
FIELDS: LineFields = {"reference_images": "texts?", "target_image": "text?", "expect": "object?"}


def write_suite(heading: SuiteHeading, drafts: Iterable[DraftCase], folder: Path) -> str:
    """Writes the suite to `folder` and returns its hash. It is whole once suite.json exists; an unfinished one is
    written again.

    Raises:
        SuiteError: the folder holds something else, ids are doubled or no file names, or there is no case at all.
    """
    refuse_taken(folder)
    was_there = folder.exists()
    durable.make_folder(folder)
    try:
        return _write(heading, drafts, folder)
    except BaseException:
        if not was_there:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _write(heading: SuiteHeading, drafts: Iterable[DraftCase], folder: Path) -> str:
    records = [_written(draft, heading.task, folder) for draft in drafts]
    _refuse_ids([record["id"] for record in records], str(folder))
    if not records:
        raise SuiteError(f"{heading.name}: a suite needs a case at least")
    lines = (json.dumps(record, ensure_ascii=False) for record in records)
    durable.write_atomically(folder / CASES, "".join(f"{line}\n" for line in lines))
    found = suite_hash(heading, records, folder)
    told = {"format": FORMAT, **asdict(heading), "hash": found, "cases": len(records)}
    durable.write_atomically(folder / HEADING, json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    return found


def read_suite_files(folder: Path) -> tuple[SuiteHeading, str, list[CaseRecord]]:
    """Heading, stated hash and the lines of a suite, not yet compared.

    Raises:
        SuiteError: no suite, or one that cannot be read.
    """
    told = _told(folder)
    try:
        size = tuple(int(side) for side in told["size"]) if told["size"] else None
        heading = SuiteHeading(
            name=str(told["name"]),
            version=str(told["version"]),
            task=told["task"],
            seeds=int(told["seeds"]),
            size=None if size is None else (size[0], size[1]),
            license=told.get("license"),
        )
        stated = str(told["hash"])
    except (KeyError, TypeError, ValueError, IndexError, AssertionError) as error:
        raise SuiteError(f"{folder / HEADING} lacks what a suite states ({error!r}); build the suite again") from error
    path = folder / CASES
    records = [_checked(record, where) for where, record in whole_lines(path, SuiteError, "restore the suite's folder")]
    _refuse_ids([record.get("id") for record in records], str(path))
    return heading, stated, records


def _checked(record: CaseRecord, where: str) -> CaseRecord:
    """The line, whose pictures lie in the suite's folder: they are copied with it, and sent to judges."""
    region = {"region": (record.get("expect") or {}).get("region")} if isinstance(record.get("expect"), dict) else {}
    if wrong := mistyped(record, FIELDS) or mistyped(region, {"region": "text?"}):
        raise SuiteError(f"{where}: {wrong}; restore the suite's folder")
    outside = [name for name in picture_names(record) if Path(name).is_absolute() or ".." in Path(name).parts]
    if outside:
        raise SuiteError(f"{where}: {outside[0]!r:.80} does not lie in the suite's folder; restore it")
    return record


def suite_hash(heading: SuiteHeading, records: Sequence[CaseRecord], folder: Path) -> str:
    """32 hexadecimal digits; see the head of this file.

    Raises:
        CaseError: a picture that is missing or torn.
    """
    h = hashlib.blake2b(digest_size=16)
    h.update(json.dumps([heading.task, heading.seeds, heading.size]).encode())
    for record in records:
        h.update(b"\n" + canonical(record).encode())
    with ThreadPoolExecutor() as pool:  # decoding a PNG releases the interpreter's lock
        for digest in pool.map(file_hash, [folder / name for record in records for name in picture_names(record)]):
            h.update(digest.encode())
    return h.hexdigest()


def canonical(record: CaseRecord) -> str:
    """One spelling of a line, whatever the order of its keys."""
    return json.dumps(record, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def picture_names(record: CaseRecord) -> Iterator[str]:
    """The pictures a line names, relative to the suite's folder."""
    yield from record.get("reference_images") or ()
    for name in (record.get("target_image"), (record.get("expect") or {}).get("region")):
        if name is not None:
            yield name


def refuse_taken(folder: Path) -> None:
    """A suite is frozen: a finished one is not overwritten.

    Raises:
        SuiteError: `folder` holds a whole suite, or other things.
    """
    if (folder / HEADING).is_file():
        raise SuiteError(f"{folder} holds a suite already; suites are frozen. Name a new folder, or remove this one")
    if folder.exists() and not folder.is_dir():
        raise SuiteError(f"{folder} is a file; name a folder for the suite")
    own = {CASES, "references", "targets", "regions", "answers.jsonl", "build.json"}
    strange = sorted(path.name for path in folder.iterdir() if path.name not in own) if folder.is_dir() else []
    strange = [name for name in strange if not name.startswith(".")]
    if strange:
        raise SuiteError(f"{folder} holds other things ({', '.join(strange[:5])}); name a new folder for the suite")


def _told(folder: Path) -> CaseRecord:
    path = folder / HEADING
    if not path.is_file():
        raise SuiteError(f"{folder} is no suite: it has no {HEADING}. `fewstep bench suites` lists the shipped ones")
    try:
        told = load_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SuiteError(f"{path} is no JSON ({error}); build the suite again") from error
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise SuiteError(f"{path} is no suite of format {FORMAT}; build it again with this version of fewstep")
    return told


def _refuse_ids(ids: Sequence[Any], where: str) -> None:
    odd = next((name for name in ids if not isinstance(name, str) or not ID.fullmatch(name)), None)
    if odd is not None:
        raise SuiteError(f"{where}: id {odd!r:.80} cannot name a file; ids hold letters, digits, '.', '_' and '-'")
    name, times = Counter(ids).most_common(1)[0] if ids else ("", 1)
    if times > 1:
        raise SuiteError(f"{where}: id {name!r} stands there {times} times; ids are unique")


def _written(draft: DraftCase, task: Task, folder: Path) -> CaseRecord:
    """The draft's line, its pictures on disk."""
    if not ID.fullmatch(draft.id):
        _refuse_ids([draft.id], str(folder))
    names = [f"references/{draft.id}-{i}.png" for i in range(len(draft.references))]
    case = Case(draft.id, task, draft.prompt, draft.category, tuple(folder / name for name in names))
    if draft.target is not None:
        case = replace(case, target=folder / f"targets/{draft.id}.png")
    if draft.size is not None:
        case = replace(case, height=draft.size[0], width=draft.size[1])
    expect = dict(draft.expect)
    if draft.region is not None:
        expect["region"] = f"regions/{draft.id}.png"
    record = record_of(replace(case, source=draft.source), folder)
    for name, picture in zip(names, draft.references, strict=True):
        _save(picture, folder / name)
    for place, single in ((case.target, draft.target), (folder / expect.get("region", ""), draft.region)):
        if place is not None and single is not None:
            _save(single, place)
    return record | ({"expect": expect} if expect else {})


def _save(picture: Image.Image, path: Path) -> None:
    durable.make_folder(path.parent)
    durable.replace_atomically(path, lambda beside: picture.save(beside, format="PNG"), synced=False)
