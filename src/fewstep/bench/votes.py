"""Blind votes: a person compares two systems' pictures of a suite, pair by pair, without knowing whose they are.

Votes are records as a judge's are, of a judge called human:NAME: GALLERY/pairs/<other system>/human:NAME.jsonl, a line
for each pair. Each line is on the disk before the next pair is shown, so a vote that was given is never lost. The lines
lie beside the gallery whose system's name comes first in the alphabet, whichever was named first.

Which pair comes when is drawn by lot from the suite, the same for every voter, so that votes of several people meet
early. Categories take turns, and every case comes once before any comes with a second seed. Who stands on the left is
drawn for each voter and pair. Both are named draws: whoever goes on later, or on another machine, sees the same.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any, Literal

from fewstep.bench.gallery import Gallery, open_gallery
from fewstep.bench.gallery_pair import common_suite, system_names
from fewstep.bench.pair_verdict import FOLDER, PairVerdict, folder_name, read_pairs
from fewstep.bench.suite import Question, Suite
from fewstep.runtime import durable
from fewstep.runtime.errors import GalleryError, JudgeError
from fewstep.runtime.seeded import seeded_random

HUMAN = "human:"  # before the name of every voter
PROTOCOL = "vote-v1"  # "which is the better answer?", one order drawn by lot; another wording gets another name
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
VoteAnswer = Literal["left", "right", "tie"]
_WON = {"left": "first", "right": "second", "tie": "tie"}


@dataclass(frozen=True)
class VotePair:
    """Two pictures of one case and seed. left, right: the systems that stand there."""

    question: Question
    seed: int
    left: str
    right: str

    @property
    def key(self) -> tuple[str, int]:
        return self.question.case.id, self.seed


class Ballot:
    """One voter's comparison of two galleries. systems: in the order of the alphabet; votes are told of the first."""

    def __init__(self, galleries: tuple[Gallery, Gallery], suite: Suite, systems: tuple[str, str], voter: str):
        self.galleries = dict(zip(systems, galleries, strict=True))
        self.suite, self.systems, self.judge = suite, systems, f"{HUMAN}{voter}"
        self._lock, self._held = RLock(), False
        self._read: tuple[tuple[int, int], list[PairVerdict]] = (0, 0), []  # the file as it was last read
        self.file = galleries[0].folder / FOLDER / folder_name(systems[1]) / f"{self.judge}.jsonl"

    @cached_property
    def pairs(self) -> list[VotePair]:
        """Every pair that both galleries have, in the order of voting."""
        a, b = self.galleries.values()
        there = {(str(row["case"]), int(row["seed"])) for row in b}
        questions = {question.case.id: question for question in self.suite.questions}
        ours = [(str(row["case"]), int(row["seed"])) for row in a]
        common = [(questions[case], seed) for case, seed in ours if (case, seed) in there and case in questions]
        ordered = _by_lot(common, self.suite, self.systems)
        return [self._placed(question, seed) for question, seed in ordered]

    def _placed(self, question: Question, seed: int) -> VotePair:
        chance = seeded_random("vote, side", self.suite.hash, *self.systems, self.judge, question.case.id, seed)
        left, right = self.systems if chance.random() < 0.5 else self.systems[::-1]
        return VotePair(question, seed, left, right)

    def votes(self) -> list[PairVerdict]:
        """What was voted, oldest first. A line that a power cut tore was never acknowledged, and is none.

        Raises:
            JudgeError: a line that is no vote.
        """
        stamp, held = self._read
        if stamp != self._stamp():
            if any(record is None for _, record in durable.numbered_records(self.file)):
                with self._alone():
                    self._write(list(durable.read_jsonl(self.file)))
            stamp = self._stamp()
            held = read_pairs(self.file, "mend that line, or remove it alone: nothing else knows these votes")
            self._read = stamp, held
        return list(held)

    def vote(self, pair: VotePair, answer: VoteAnswer, seconds: float | None = None) -> None:
        """Records a vote; it is on the disk on return.

        Raises:
            JudgeError: this pair has a vote already, as by the same voter in another window.
            EnvironmentRefused: no space, or no permission.
        """
        durable.make_folder(self.file.parent)
        with self._alone():
            held = self.votes()
            if any((vote.case, vote.seed) == pair.key for vote in held):
                raise JudgeError(f"{self.judge} has voted on this pair already; it stays as it was")
            given = self._verdict(pair, answer, seconds)
            durable.append_jsonl(self.file, asdict(given))
            self._read = self._stamp(), [*held, given]

    def take_back(self) -> VotePair | None:
        """Removes the last vote, and returns its pair; None if there is none."""
        if not self.file.exists():
            return None
        with self._alone():
            held = self.votes()
            if not held:
                return None
            self._write([asdict(vote) for vote in held[:-1]])
        last = held[-1]
        return next((pair for pair in self.pairs if pair.key == (last.case, last.seed)), None)

    def next_pair(self, votes: Sequence[PairVerdict]) -> VotePair | None:
        """The first pair without a vote; None if all have one."""
        voted = {(vote.case, vote.seed) for vote in votes}
        return next((pair for pair in self.pairs if pair.key not in voted), None)

    def picture(self, pair: VotePair, side: Literal["left", "right"]) -> Path:
        return self.galleries[pair.left if side == "left" else pair.right].path(*pair.key)

    def _stamp(self) -> tuple[int, int]:
        """By which a change of the file is noticed: another window or studio may write it."""
        try:
            told = self.file.stat()
        except OSError:
            return 0, 0
        return told.st_size, told.st_mtime_ns

    def _verdict(self, pair: VotePair, answer: VoteAnswer, seconds: float | None) -> PairVerdict:
        case = pair.question.case
        return PairVerdict(
            key=f"{case.id}/{pair.seed}",
            case=case.id,
            seed=pair.seed,
            task=case.task,
            category=case.category,
            judge=self.judge,
            model=None,
            protocol=PROTOCOL,
            first=pair.left,
            second=pair.right,
            status="ok",
            won=_WON[answer],
            seconds=seconds,
        )

    def _write(self, records: Sequence[dict[str, Any]]) -> None:
        durable.write_atomically(
            self.file, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other window or studio writes meanwhile. Its holder may enter again."""
        with self._lock:
            if self._held:
                yield
                return
            handle = os.open(self.file.parent, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                self._held = True
                yield
            finally:
                self._held = False
                os.close(handle)


def open_ballot(a: Path, b: Path, voter: str) -> Ballot:
    """A voter's comparison of two galleries of one suite, begun or continued.

    Raises:
        GalleryError: not of one suite, of one name, or without a picture in common. SuiteError: as `suite_of`.
        JudgeError: a voter's name that is none.
    """
    if not NAME.fullmatch(voter):
        raise JudgeError("a voter's name is letters, digits, . _ and -, at most 40")
    galleries = open_gallery(a), open_gallery(b)
    suite, names = common_suite(a, b), system_names(galleries)
    if names[0] > names[1]:
        galleries, names = galleries[::-1], names[::-1]
    ballot = Ballot(galleries, suite, names, voter)
    if not ballot.pairs:
        raise GalleryError(f"{a} and {b} have no case and seed in common; draw both for the same suite")
    return ballot


def _by_lot(
    common: Sequence[tuple[Question, int]], suite: Suite, systems: tuple[str, str]
) -> list[tuple[Question, int]]:
    """First seeds first; within one seed, categories take turns, and each has its cases in a drawn order."""
    turns: dict[tuple[int, str], list[tuple[Question, int]]] = {}
    for question, seed in common:
        k = question.seeds.index(seed) if seed in question.seeds else len(question.seeds)
        turns.setdefault((k, question.case.category), []).append((question, seed))
    placed: list[tuple[int, int, str, tuple[Question, int]]] = []
    for (k, category), members in turns.items():
        seeded_random("vote, order", suite.hash, *systems, k, category).shuffle(members)
        placed += [(k, turn, category, member) for turn, member in enumerate(members)]
    return [member for *_, member in sorted(placed, key=lambda each: each[:3])]
