"""A suite before it is written to files: its heading, and its cases with their pictures in memory."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from fewstep.runtime.task import Task


@dataclass(frozen=True)
class SuiteHeading:
    """size: (height, width) of every answer in pixels. With None, each case decides, and then the model."""

    name: str
    version: str
    task: Task
    seeds: int = 1
    size: tuple[int, int] | None = None
    license: str | None = None

    def __post_init__(self) -> None:
        assert self.seeds > 0, self.seeds


@dataclass(frozen=True)
class DraftCase:
    """A case before it is written to files, with its pictures in memory. expect: see docs/suites.md; `region` has a
    field of its own."""

    id: str
    prompt: str
    category: str
    references: tuple[Image.Image, ...] = ()
    target: Image.Image | None = None
    region: Image.Image | None = None
    expect: Mapping[str, Any] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    source: str | None = None


@dataclass(frozen=True)
class ShippedSuite:
    """A suite that is drawn when it is first asked for. words: a line about its content. cases: how many there are;
    drafts draws them, the same ones each time. cut: whether NAME@N gives the first N."""

    heading: SuiteHeading
    words: str
    cases: int
    drafts: Callable[[], Iterator[DraftCase]]
    cut: bool = False
