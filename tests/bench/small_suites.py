"""Suites of a few cases, written into a folder of the test."""

from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from fewstep.bench.drafts import DraftCase, SuiteHeading
from fewstep.bench.suite import Suite
from fewstep.bench.suite_files import write_suite
from fewstep.bench.suites import read_suite


def plain(colour: str | tuple[int, int, int] = "teal", size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.new("RGB", size, colour)


def suite_of_drafts(folder: Path, drafts: Iterable[DraftCase], **heading: object) -> Suite:
    content = {"name": "small", "version": "1", "task": "t2i", "size": (64, 64)} | heading
    write_suite(SuiteHeading(**content), drafts, folder)  # type: ignore[arg-type]
    return read_suite(folder)


def prompts(count: int = 4) -> list[DraftCase]:
    return [DraftCase(f"case-{i}", f"a red house number {i}", "landscape") for i in range(count)]


def edits(count: int = 2) -> list[DraftCase]:
    region = Image.new("L", (64, 64), 255)
    return [
        DraftCase(f"edit-{i}", "make it night", "scene", (plain((i, 90, 90)),), plain("navy"), region, {"text": ["A"]})
        for i in range(count)
    ]
