"""The suites that come with the package: drawn on demand into a cache, and found there the next time.

A pocket suite's name may carry a number of cases: `pocket-t2i@60` is the first 60 of them, another suite with a hash
of its own.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from fewstep.bench.mini import cases as mini
from fewstep.bench.pixels import pixel_hash
from fewstep.bench.suite_files import (
    HEADING,
    DraftCase,
    SuiteHeading,
    write_suite,
)
from fewstep.pocket import suites
from fewstep.runtime.errors import SuiteError

MARKED = 6  # cases whose look names the cache folder: another Pillow or world draws into another one
LICENCE = "CC0-1.0"


@dataclass(frozen=True)
class ShippedSuite:
    """cases: how many there are; drafts draws them. cut: whether NAME@N gives the first N."""

    heading: SuiteHeading
    words: str
    cases: int
    drafts: Callable[[], Iterator[DraftCase]]
    cut: bool = False


def _pocket(
    name: str, words: str, cases: int, drafts: Callable[[], Iterator[DraftCase]], seeds: int = 1
) -> ShippedSuite:
    task = "edit" if name.endswith("edit") else "t2i"
    return ShippedSuite(
        SuiteHeading(name, "1", task, seeds, suites.ANSWER_SIZE, LICENCE),  # type: ignore[arg-type]
        words,
        cases,
        drafts,
        cut=True,
    )


def _mini(name: str, words: str, cases: int, drafts: Callable[[], Iterator[DraftCase]], seeds: int = 1) -> ShippedSuite:
    task = "edit" if name.endswith("edit") else "t2i"
    return ShippedSuite(SuiteHeading(name, "1", task, seeds, None, LICENCE), words, cases, drafts)  # type: ignore[arg-type]


ALL = (
    _mini("mini-t2i", "landscapes, portraits, text-centric; 20 each", 60, lambda: mini.prompt_drafts("t2i")),
    _mini("mini-edit", "the six kinds of edit; 20 each, sources drawn", 120, mini.edit_drafts),
    _mini("flat-field", "plain and gradient backgrounds", 24, lambda: mini.prompt_drafts("flat_field"), 4),
    _mini("tiny-text", "small and dense words", 20, lambda: mini.prompt_drafts("tiny_text"), 4),
    _mini("diversity", "50 prompts that leave much open, 8 seeds each", 50, lambda: mini.prompt_drafts("diversity"), 8),
    _pocket("pocket-t2i", "pocket world: landscapes, portraits, signs; 600 each", 1800, lambda: suites.pocket_t2i(600)),
    _pocket("pocket-edit", "pocket world: six kinds of edit; 250 each", 1500, lambda: suites.pocket_edits(250)),
    _pocket("pocket-flat-field", "pocket world: gradients with nothing in them", 16, suites.pocket_flat_field, 4),
    _pocket("pocket-tiny-text", "pocket world: its smallest letters", 60, lambda: suites.pocket_tiny_text(60), 2),
    _pocket("pocket-diversity", "pocket world: 50 prompts, 8 seeds each", 50, lambda: suites.pocket_t2i(17), 8),
)
BY_NAME = {suite.heading.name: suite for suite in ALL}
NAMES = tuple(BY_NAME)


def is_shipped(name: str) -> bool:
    return name.partition("@")[0] in BY_NAME


def shipped_suite(name: str) -> ShippedSuite:
    """The suite of a name, cut where the name says so.

    Raises:
        SuiteError: a number of cases that it does not have.
    """
    plain, at, number = name.partition("@")
    suite = BY_NAME[plain]
    if not at:
        return suite
    if not suite.cut:
        raise SuiteError(f"'{name}': {plain} comes whole; only pocket suites can be cut")
    if not re.fullmatch(r"\d{1,5}", number) or not 0 < int(number) <= suite.cases:
        raise SuiteError(f"'{name}': give a number of cases from 1 to {suite.cases} behind the @")
    return replace(suite, heading=replace(suite.heading, name=f"{plain}@{int(number)}"), cases=int(number))


def shipped_folder(name: str) -> Path:
    """The suite's folder in the cache, drawn where it is not there yet.

    Raises:
        SuiteError: a number of cases that it does not have.
        EnvironmentRefused: the cache cannot be written.
    """
    suite = shipped_suite(name)
    folder = cache_folder() / f"{suite.heading.name}-{suite.heading.version}-{_mark(suite)}"
    if not (folder / HEADING).is_file():
        beside = folder.with_name(f".{folder.name}.{os.getpid()}")
        write_suite(suite.heading, islice(suite.drafts(), suite.cases), beside)
        _placed(beside, folder)
    return folder


def _placed(beside: Path, folder: Path) -> None:
    """Several processes may draw the same suite at once: the first one's stays."""
    try:
        beside.rename(folder)
    except OSError:
        shutil.rmtree(beside)
        if not (folder / HEADING).is_file():
            raise SuiteError(f"{folder} is in the way of a shipped suite; remove it") from None


def cache_folder() -> Path:
    """$FEWSTEP_CACHE/suites, else the user's cache folder."""
    own = os.environ.get("FEWSTEP_CACHE")
    root = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fewstep"
    return root / "suites"


def _mark(suite: ShippedSuite) -> str:
    """A short hash of the first cases' words and pictures."""
    h = hashlib.blake2b(digest_size=4)
    for draft in islice(suite.drafts(), min(MARKED, suite.cases)):
        h.update(repr((draft.id, draft.prompt, dict(draft.expect))).encode())
        for picture in (*draft.references, draft.target):
            if picture is not None:
                h.update(pixel_hash(picture).encode())
    return h.hexdigest()
