"""metrics.jsonl of a run that may be going on: read once, then followed. It may be long, cut off within its last line,
damaged, or replaced by a shorter one, as a run does that resumes at a checkpoint."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fewstep.run.studio.curves import Curves
from fewstep.runtime.strict_json import load_json

CHUNK = 4 * 2**20  # bytes read at a time
LINES = 2_000  # parsed at a time
SAMPLED = 2_000  # lines that stand for all of a long file until all are read
TRAINING = b'{"phase": "distil"'


class MetricsFile:
    """Not for several threads at once.

    Attributes:
        others: examinations, events and warm-up lines, in order.
        damaged: lines that are no records.
        generation: how often the file was replaced; whatever was made of it before is void.
    """

    def __init__(self, path: Path):
        self.path, self.generation = path, 0
        self._begin(None)

    def _begin(self, inode: int | None) -> None:
        self._inode, self._end = inode, 0
        self.others: list[dict[str, Any]] = []
        self.damaged = 0
        self.places: list[int] = []  # where lines of training begin
        self._curves, self._curves_at = Curves(), 0  # of how many of `places`
        self._last: tuple[int, dict[str, Any] | None] = (-1, None)

    @property
    def trained(self) -> int:
        """Lines of training."""
        return len(self.places)

    def update(self) -> bool:
        """Reads on. Whether there was anything new."""
        try:
            told = self.path.stat()
        except OSError:
            if self._inode is not None:
                self._restart(None)
                return True
            return False
        if told.st_ino != self._inode or told.st_size < self._end:
            self._restart(told.st_ino)
        elif told.st_size == self._end:
            return False
        before = self._end
        with self.path.open("rb") as file:
            file.seek(self._end)
            rest = b""
            while piece := file.read(CHUNK):
                *whole, rest = (rest + piece).split(b"\n")
                for line in whole:
                    self._note(line)
        return self._end > before

    def _restart(self, inode: int | None) -> None:
        self.generation += 1
        self._begin(inode)

    def _note(self, line: bytes) -> None:
        place = self._end
        self._end += len(line) + 1
        if line.startswith(TRAINING) and line.endswith(b"}"):  # whole, as far as can be seen without reading it
            self.places.append(place)
        elif line.strip():
            record = json_record(line)
            if record is None:
                self.damaged += 1
            elif record.get("phase") == "distil":
                self.places.append(place)
            elif isinstance(record.get("iteration"), int):
                self.others.append(record)

    def lines(self, first: int, last: int) -> list[dict[str, Any]]:
        """Lines of training from number `first` up to `last`, without damaged ones."""
        chosen = self.places[max(0, first) : max(0, last)]
        return list(self._read(chosen, contiguous=True))

    def spread(self, most: int) -> list[dict[str, Any]]:
        """At most so many lines of training, evenly spaced, the last one among them."""
        step = max(1, -(-self.trained // most))
        return list(self._read(self.places[::-1][::step][::-1], contiguous=False))

    def last(self) -> dict[str, Any] | None:
        """The last line of training that can be read."""
        if self._last[0] != self.trained:
            recent = self.lines(self.trained - 5, self.trained)
            self._last = self.trained, (recent[-1] if recent else None)
        return self._last[1]

    def curves(self) -> tuple[Curves, bool]:
        """What the lines give, and whether these are all of them. A long file is read in parts: each call reads on, and
        until it is through, evenly spaced lines stand for all."""
        if self.trained - self._curves_at > 4 * LINES:
            quick = Curves()
            quick.add(self.spread(SAMPLED))
            return quick, False
        self.read_on(self.trained)
        return self._curves, True

    def read_on(self, most: int = LINES) -> bool:
        """Takes at most so many further lines into the curves. Whether all are in them."""
        end = min(self.trained, self._curves_at + most)
        while self._curves_at < end:
            upto = min(end, self._curves_at + LINES)
            self._curves.add(self.lines(self._curves_at, upto))
            self._curves_at = upto
        return self._curves_at == self.trained

    def _read(self, places: Sequence[int], contiguous: bool) -> Iterator[dict[str, Any]]:
        if not places:
            return
        try:
            with self.path.open("rb") as file:
                if contiguous:
                    file.seek(places[0])
                    lines = file.read(places[-1] - places[0]).split(b"\n")[:-1]
                    lines.append(file.readline())
                    yield from _records(lines)
                    return
                for place in places:
                    file.seek(place)
                    yield from _records([file.readline()])
        except OSError:  # removed meanwhile
            return


def json_record(line: bytes) -> dict[str, Any] | None:
    try:
        record = load_json(line)
    except ValueError:  # also UnicodeDecodeError: a line cut within a character
        return None
    return record if isinstance(record, dict) else None


def _records(lines: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    """Lines of training that can be read. All at once where they are whole, which is more than twice as fast."""
    try:
        found = json.loads(b"[" + b",".join(line for line in lines if line.strip()) + b"]")
    except (ValueError, RecursionError):
        found = [json_record(line) for line in lines]
    for record in found:
        if isinstance(record, dict) and record.get("phase") == "distil" and isinstance(record.get("iteration"), int):
            yield record
