"""Suites that are asked for by name: drawn on demand into a cache, and read from there the next time. The small ones
are defined here; other packages and the pocket world add theirs (docs/extending.md).

A pocket suite's name may carry a number of cases: `pocket-t2i@60` is its first 60 cases, another suite with a hash of
its own.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from fewstep.bench.drafts import DraftCase, ShippedSuite, SuiteHeading
from fewstep.bench.mini import cases as mini
from fewstep.bench.pixels import pixel_hash
from fewstep.bench.suite_files import HEADING, write_suite
from fewstep.runtime.errors import SuiteError
from fewstep.runtime.plugins import ExtensionPoint
from fewstep.runtime.user_cache import user_cache

MARKED = 6  # cases whose pixels name the cache folder: another Pillow or world draws into another one


def _mini(name: str, words: str, cases: int, drafts: Callable[[], Iterator[DraftCase]], seeds: int = 1) -> ShippedSuite:
    task = "edit" if name.endswith("edit") else "t2i"
    return ShippedSuite(SuiteHeading(name, "1", task, seeds, None, "CC0-1.0"), words, cases, drafts)  # type: ignore[arg-type]


MINI = (
    _mini("mini-t2i", "landscapes, portraits, text-centric; 20 each", 60, lambda: mini.prompt_drafts("t2i")),
    _mini("mini-edit", "the six kinds of edit; 20 each, sources drawn", 120, mini.edit_drafts),
    _mini("flat-field", "plain and gradient backgrounds", 24, lambda: mini.prompt_drafts("flat_field"), 4),
    _mini("tiny-text", "small and dense words", 20, lambda: mini.prompt_drafts("tiny_text"), 4),
    _mini("diversity", "50 prompts that leave much open, 8 seeds each", 50, lambda: mini.prompt_drafts("diversity"), 8),
)


def _problem(name: str, thing: object) -> str | None:
    if not isinstance(thing, ShippedSuite):
        return "is no ShippedSuite"
    return None if thing.heading.name == name else f"calls itself {thing.heading.name!r}"


SUITES: ExtensionPoint[ShippedSuite] = ExtensionPoint(
    "fewstep.suites", "suite", _problem, {suite.heading.name: suite for suite in MINI}
)


def is_shipped(name: str) -> bool:
    return name.partition("@")[0] in SUITES.names()


def shipped_suites() -> Iterator[ShippedSuite]:
    """All of them.

    Raises:
        PluginError: one of another package cannot be used.
    """
    return (suite for name in SUITES.names() if (suite := SUITES.find(name)) is not None)


def shipped_suite(name: str) -> ShippedSuite:
    """The suite of this name, cut if the name says so.

    Raises:
        SuiteError: none of that name, or a number of cases that it does not have.
        PluginError: it comes from another package and cannot be used.
    """
    plain, at, number = name.partition("@")
    suite = SUITES.find(plain)
    if suite is None:
        raise SuiteError(f"no suite '{plain}'; there are {', '.join(SUITES.names())}")
    if not at:
        return suite
    if not suite.cut:
        raise SuiteError(f"'{name}': {plain} comes whole; a pocket suite can be cut")
    if not re.fullmatch(r"\d{1,5}", number) or not 0 < int(number) <= suite.cases:
        raise SuiteError(f"'{name}': give a number of cases from 1 to {suite.cases} behind the @")
    return replace(suite, heading=replace(suite.heading, name=f"{plain}@{int(number)}"), cases=int(number))


def shipped_folder(name: str) -> Path:
    """The suite's folder in the cache, drawn if it does not exist yet.

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
    """Several processes may draw the same suite at once; the first one's folder stays."""
    try:
        beside.rename(folder)
    except OSError:
        shutil.rmtree(beside)
        if not (folder / HEADING).is_file():
            raise SuiteError(f"{folder} is in the way of a shipped suite; remove it") from None


def cache_folder() -> Path:
    """$FEWSTEP_CACHE/suites, else the user's cache folder."""
    return user_cache() / "suites"


def _mark(suite: ShippedSuite) -> str:
    """A short hash of the first cases' words and pictures."""
    h = hashlib.blake2b(digest_size=4)
    for draft in islice(suite.drafts(), min(MARKED, suite.cases)):
        h.update(repr((draft.id, draft.prompt, dict(draft.expect))).encode())
        for picture in (*draft.references, draft.target):
            if picture is not None:
                h.update(pixel_hash(picture).encode())
    return h.hexdigest()
