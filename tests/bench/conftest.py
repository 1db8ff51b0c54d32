"""Shipped suites are drawn into a folder of this test run, never into the user's cache."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from fewstep.bench.drafts import DraftCase, SuiteHeading
from fewstep.bench.suite import Suite
from fewstep.bench.suite_files import write_suite
from fewstep.bench.suites import read_suite


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWSTEP_CACHE", str(folder))
        yield folder


def plain(colour: str | tuple[int, int, int] = "teal", size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.new("RGB", size, colour)


def suite_of_drafts(folder: Path, drafts: Iterable[DraftCase], **heading: object) -> Suite:
    told = {"name": "small", "version": "1", "task": "t2i", "size": (64, 64)} | heading
    write_suite(SuiteHeading(**told), drafts, folder)  # type: ignore[arg-type]
    return read_suite(folder)


def prompts(count: int = 4) -> list[DraftCase]:
    return [DraftCase(f"case-{i}", f"a red house number {i}", "landscape") for i in range(count)]


def edits(count: int = 2) -> list[DraftCase]:
    region = Image.new("L", (64, 64), 255)
    return [
        DraftCase(f"edit-{i}", "make it night", "scene", (plain((i, 90, 90)),), plain("navy"), region, {"text": ["A"]})
        for i in range(count)
    ]
