"""Where a suite is found: shipped under a name, in a folder, or in the gallery that answers it."""

import os
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fewstep.bench import shipped
from fewstep.bench.drafts import SuiteHeading
from fewstep.bench.gallery import read_heading
from fewstep.bench.suite import Question, Suite, seed_of
from fewstep.bench.suite_files import CASES, HEADING, CaseRecord, picture_names, read_suite_files, suite_hash
from fewstep.data.cases import case_of
from fewstep.runtime import durable
from fewstep.runtime.errors import CaseError, SuiteError
from fewstep.runtime.task import TASKS

SUITE_FOLDER = "suite"  # the suite's place in a gallery


def refuse_no_suite(name: str | Path) -> None:
    """What `open_suite` refuses at once, without reading cases.

    Raises:
        SuiteError: neither a folder of a suite nor a shipped name.
    """
    if not (Path(name) / HEADING).is_file() and not shipped.is_shipped(str(name)):
        open_suite(name)


def open_suite(name: str | Path) -> Suite:
    """A shipped suite by its name (drawn into the cache if it is not there yet), or a folder.

    Raises:
        SuiteError: neither, or the cases do not match the suite's hash.
        CaseError: a case or a picture cannot be read.
    """
    folder = Path(name)
    if (folder / HEADING).is_file():
        return read_suite(folder)
    if shipped.is_shipped(str(name)):
        made = shipped.shipped_folder(str(name))
        try:
            return read_suite(made)
        except (SuiteError, CaseError) as error:
            raise SuiteError(f"{error}. This is the cache: remove {made}, and it is drawn again") from error
    if folder.is_dir():
        raise SuiteError(f"{folder} is no suite: it has no {HEADING}. `fewstep bench suites` lists the shipped ones")
    raise SuiteError(f"no suite '{name}': no folder here, and shipped are {', '.join(shipped.SUITES.names())}")


def read_suite(folder: Path) -> Suite:
    """The suite of one folder.

    Raises:
        SuiteError: torn, or its hash does not match.
    """
    heading, stated, records = read_suite_files(folder)
    if heading.task not in TASKS:
        raise SuiteError(f"{folder / HEADING}: task {heading.task!r} is not known; it is 't2i' or 'edit'")
    found = suite_hash(heading, records, folder)
    if found != stated:
        raise SuiteError(
            f"{folder}: the cases or their pictures are not those of suite {heading.name} {heading.version} "
            f"(hash {found}, stated {stated}). Restore the folder; changed cases are a suite of another version"
        )
    questions = tuple(_question(record, i, heading, folder) for i, record in enumerate(records))
    return Suite(**_facts(heading), hash=stated, folder=folder, questions=questions)


def copy_into_gallery(suite: Suite, gallery: Path) -> None:
    """Copies the suite into the gallery, which can then be judged and read anywhere. Files are linked if the disk
    can."""
    for record in read_suite_files(suite.folder)[2]:
        for name in picture_names(record):
            _brought(suite.folder / name, gallery / SUITE_FOLDER / name)
    for name in (CASES, HEADING):
        _brought(suite.folder / name, gallery / SUITE_FOLDER / name)


def suite_of(gallery: Path) -> Suite:
    """The suite that a gallery answers.

    Raises:
        SuiteError: it no longer exists, or is not the one that the gallery was made for.
    """
    heading = read_heading(gallery)
    told = {} if heading is None else dict(heading["suite"])
    carried = gallery / SUITE_FOLDER
    suite = open_suite(carried if (carried / HEADING).is_file() else str(told.get("name")))
    if suite.hash != told.get("hash"):
        raise SuiteError(
            f"{gallery} answers suite {told.get('name')} of hash {told.get('hash')}, and {suite.folder} has hash "
            f"{suite.hash}; restore the suite, or make the gallery again"
        )
    return suite


def _facts(heading: SuiteHeading) -> dict[str, Any]:
    return {name: getattr(heading, name) for name in ("name", "version", "task", "seeds", "size", "license")}


def _question(record: CaseRecord, number: int, heading: SuiteHeading, folder: Path) -> Question:
    where = f"{folder / CASES}:{number + 1}"
    case = case_of({key: value for key, value in record.items() if key != "expect"}, folder, where, "")
    if case.task != heading.task:
        raise SuiteError(f"{where}: a case of task {case.task} in a suite of task {heading.task}; build two suites")
    expect = record.get("expect") or {}
    if not isinstance(expect, dict):
        raise SuiteError(f"{where}: expect is {expect!r:.60}; it is an object")
    return Question(case, MappingProxyType(expect), tuple(seed_of(case.id, k) for k in range(heading.seeds)))


def _brought(source: Path, place: Path) -> None:
    if place.is_file():
        return
    durable.make_folder(place.parent)
    beside = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        os.link(source, beside)
        os.replace(beside, place)
    except OSError:  # another disk, or a file system without links
        durable.write_atomically(place, source.read_bytes())
    finally:
        beside.unlink(missing_ok=True)
