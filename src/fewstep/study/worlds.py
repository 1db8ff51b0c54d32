"""The worlds whose students a study can examine here: their held-out cases, and what reads the answers.

Galleries of other models wait for their judges in the same folders.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from fewstep.backbones.embedded import HARDER, POCKET
from fewstep.backbones.identity import digest
from fewstep.pocket import score
from fewstep.pocket.asked_case import AskedCase
from fewstep.pocket.exam import ExamSpec, examine_system
from fewstep.pocket.exam_gallery import ExaminedSystem
from fewstep.pocket.harder import probe as harder_probe
from fewstep.pocket.harder import score as harder_score
from fewstep.pocket.harder.exam import HarderExamSpec, examine_harder_system
from fewstep.pocket.harder.scenes import PIXELS
from fewstep.pocket.probe import WEIGHTS, Probe
from fewstep.pocket.render import SIZE
from fewstep.study.world_categories import WORLD_CATEGORIES, Categories

Questions = Sequence[tuple[Any, int]]  # cases of its world, and a seed for each
Advance = Callable[[int], object]


class ExaminedWorld(Protocol):
    """
    Args:
        name: as messages tell it.
        judge: names the file of verdicts.
        categories: of prompts, and kinds of edit.
        sizes: heights and widths of its cases in px.
    """

    name: str
    judge: str
    categories: Categories
    sizes: tuple[tuple[int, int], ...]

    def questions(self, cases: int, seed: int) -> Sequence[tuple[AskedCase, int]]:
        """The held-out cases, `cases` of each category and kind, with the seed that each is drawn from."""

    def verdicts(
        self, system: ExaminedSystem, questions: Questions, seed: int, folder: Path, advance: Advance | None
    ) -> list[dict[str, Any]]:
        """Draws the system's answers into `folder`, and returns a line for each. seed: of the cases."""


class PocketExamined:
    """The pocket world, read by its probe."""

    name, judge = "the pocket world", score.JUDGE
    categories = WORLD_CATEGORIES[POCKET]
    sizes: tuple[tuple[int, int], ...] = ((SIZE, SIZE),)

    def questions(self, cases: int, seed: int) -> Sequence[tuple[AskedCase, int]]:
        return ExamSpec(cases=cases, diversity=0, seed=seed).questions()

    def verdicts(
        self, system: ExaminedSystem, questions: Questions, seed: int, folder: Path, advance: Advance | None
    ) -> list[dict[str, Any]]:
        drawn, records = examine_system(system, questions, ExamSpec(seed=seed), self._probe, folder, advance=advance)
        return [
            score.verdict(picture, case, record, self._probe_name)
            for record, picture, (case, _) in zip(records, drawn, questions, strict=True)
        ]

    @cached_property
    def _probe(self) -> Probe:
        return Probe.load()

    @cached_property
    def _probe_name(self) -> str:
        return f"reader-{digest([(WEIGHTS / 'reader.safetensors').read_bytes()])}"


class HarderExamined:
    """The harder world, read by its reader: what was asked and how well it is drawn, by halves."""

    name, judge = "the harder world", harder_score.JUDGE
    categories = WORLD_CATEGORIES[HARDER]
    sizes: tuple[tuple[int, int], ...] = PIXELS

    def questions(self, cases: int, seed: int) -> Sequence[tuple[AskedCase, int]]:
        return HarderExamSpec(cases=cases, diversity=0, seed=seed).questions()

    def verdicts(
        self, system: ExaminedSystem, questions: Questions, seed: int, folder: Path, advance: Advance | None
    ) -> list[dict[str, Any]]:
        drawn, records = examine_harder_system(system, questions, seed, self._reader, folder, advance=advance)
        return [
            harder_score.harder_verdict(picture, case, record, self._reader_name)
            for record, picture, (case, _) in zip(records, drawn, questions, strict=True)
        ]

    @cached_property
    def _reader(self) -> harder_probe.Reader:
        return harder_probe.load_reader(harder_probe.READER)[0]

    @cached_property
    def _reader_name(self) -> str:
        return harder_probe.reader_name(harder_probe.READER)


EXAMINED: Mapping[str, ExaminedWorld] = {POCKET: PocketExamined(), HARDER: HarderExamined()}
