"""Figures of a run over its iterations, thinned out for a screen.

A figure is held in at most `BUCKETS` buckets of equal width, each with the lowest, the highest and the mean of its
values. So a spike of one iteration stays visible however long the run, and memory does not grow with it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

BUCKETS = 512
BY_STEP = ("cosine", "gap", "student_loss")  # told apart by student step, as pulls are
LEFT_OUT = {"iteration", "student_step", "critic_skipped", "student_skipped", "left_out"}


class Curve:
    """One figure. width: iterations of a bucket, a power of 2."""

    def __init__(self) -> None:
        self.width = 1
        self.low: dict[int, float] = {}
        self.high: dict[int, float] = {}
        self.total: dict[int, float] = {}
        self.count: dict[int, int] = {}

    def add(self, iterations: Sequence[int], values: Sequence[float]) -> None:
        """Values in order of their iterations."""
        while iterations and iterations[-1] // self.width >= BUCKETS:
            self._widen()
        buckets = np.asarray(iterations) // self.width
        held = np.asarray(values, float)
        starts = np.flatnonzero(np.r_[True, buckets[1:] != buckets[:-1]])
        low, high = np.minimum.reduceat(held, starts), np.maximum.reduceat(held, starts)
        total, count = np.add.reduceat(held, starts), np.diff(np.r_[starts, len(held)])
        for bucket, *found in zip(buckets[starts], low, high, total, count, strict=True):
            self._merge(int(bucket), float(found[0]), float(found[1]), float(found[2]), int(found[3]))

    def points(self) -> list[tuple[float, float, float, float]]:
        """(iteration, mean, low, high) in order; the iteration is the middle of its bucket, counted from 1."""
        middle = (self.width + 1) / 2
        found = []
        for bucket in sorted(self.count):
            mean = self.total[bucket] / self.count[bucket]
            found.append(
                (bucket * self.width + middle, _short(mean), _short(self.low[bucket]), _short(self.high[bucket]))
            )
        return found

    def _merge(self, bucket: int, low: float, high: float, total: float, count: int) -> None:
        self.low[bucket] = min(low, self.low.get(bucket, math.inf))
        self.high[bucket] = max(high, self.high.get(bucket, -math.inf))
        self.total[bucket] = total + self.total.get(bucket, 0.0)
        self.count[bucket] = count + self.count.get(bucket, 0)

    def _widen(self) -> None:
        held = [(b, self.low[b], self.high[b], self.total[b], self.count[b]) for b in sorted(self.count)]
        self.low, self.high, self.total, self.count = {}, {}, {}, {}
        self.width *= 2
        for bucket, *rest in held:
            self._merge(bucket // 2, *rest)  # type: ignore[arg-type]


class Curves:
    """All figures of a run's lines of training, by name. What is told apart by student step has it in its name, as in
    `cosine @ 0`."""

    def __init__(self) -> None:
        self.by_name: dict[str, Curve] = {}

    def add(self, lines: Sequence[Mapping[str, Any]]) -> None:
        found: dict[str, tuple[list[int], list[float]]] = {}
        for line in lines:
            iteration = line["iteration"]
            for name, value in figures_of_line(line):
                held = found.get(name)
                if held is None:
                    held = found[name] = ([], [])
                held[0].append(iteration)
                held[1].append(value)
        for name, (iterations, values) in found.items():
            self.by_name.setdefault(name, Curve()).add(iterations, values)

    def as_dict(self) -> dict[str, list[tuple[float, float, float, float]]]:
        return {name: self.by_name[name].points() for name in sorted(self.by_name)}


def figures_of_line(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The figures of one line of training that are numbers."""
    step = line.get("student_step")
    for name, value in line.items():
        if type(value) is float or (type(value) is int and name not in LEFT_OUT):
            if name in LEFT_OUT or value != value:
                continue
            yield (f"{name} @ {step}" if name in BY_STEP or name.startswith("pull/") else name), value
    seconds = line.get("seconds")
    if isinstance(seconds, dict) and isinstance(seconds.get("iteration"), float | int):
        yield "seconds", float(seconds["iteration"])


def _short(value: float) -> float:
    return float(f"{value:.5g}")
