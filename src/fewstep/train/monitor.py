"""What is recorded of each iteration, and how a run reacts to it.

cosine and gap compare critic and teachers (healthy: cosine about 0.98, gap small and steady). Gradient norms are those
before clipping. An update whose loss or norm is not finite is skipped, and too many skipped updates stop the run.
"""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from operator import add
from typing import TypeVar

import torch
from torch import Tensor

from fewstep.roles.plan import WatchPlan
from fewstep.runtime.errors import TrainingStopped

COUNT_METRIC = "left_out"  # the only figure that counts samples: parts are added, not averaged

StepMetrics = dict[str, Tensor]  # scalars on the device: who reads one waits for it
MetricT = TypeVar("MetricT", float, Tensor)


class StepTimer:
    """Seconds spent in each part of an iteration. On a GPU they are measured by events in its stream, so measuring does
    not make the host wait."""

    def __init__(self, device: torch.device):
        self._on_gpu = device.type == "cuda"
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        if self._on_gpu:
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            yield
            end.record()
            self._events.append((name, start, end))
        else:
            start_s = time.perf_counter()
            yield
            self._seconds[name] += time.perf_counter() - start_s

    def seconds(self) -> dict[str, float]:
        """Seconds by part since the last call. Call it after the iteration's figures were read: all events are complete
        then."""
        for name, start, end in self._events:
            self._seconds[name] += start.elapsed_time(end) / 1000
        taken = {name: round(seconds, 4) for name, seconds in self._seconds.items()}
        self._events.clear()
        self._seconds.clear()
        return taken


def to_host(metrics: Mapping[str, Tensor]) -> dict[str, float | None]:
    """The figures of an iteration on the host, in one transfer. Only here the loop waits for the device.

    None stands for a figure that is not finite, since JSON has no such numbers.
    """
    values = torch.stack([value.detach().float() for value in metrics.values()]).tolist()
    return {name: value if math.isfinite(value) else None for name, value in zip(metrics, values, strict=True)}


def mean_metrics(updates: Sequence[StepMetrics]) -> StepMetrics:
    """The means over an iteration's updates of one network. Of skipped updates it is their number."""
    means = {key: torch.stack([update[key] for update in updates]).mean() for key in updates[0]}
    return means | {"skipped": means["skipped"] * len(updates)}


def merge_metrics(parts: Sequence[tuple[float, Mapping[str, MetricT]]]) -> dict[str, MetricT]:
    """The figures of a whole batch, from (share, figures) of each part.

    Each is the mean over the parts that have it, weighted by their samples. A part lacks the figures of teachers that
    none of its samples needs. Counts are added. For figures that are not means over samples (root mean squares, ratios)
    the result is the mean of the parts' values, not the value of the whole. Parts with a share of 0 do not count.
    """
    parts = [part for part in parts if part[0]]
    if len(parts) == 1:
        return dict(parts[0][1])
    metrics: dict[str, MetricT] = {}
    for name in dict.fromkeys(name for _, figures in parts for name in figures):
        held = [(share, figures[name]) for share, figures in parts if name in figures]
        whole = 1.0 if name == COUNT_METRIC else sum(share for share, _ in held)
        metrics[name] = reduce(add, (value if name == COUNT_METRIC else share / whole * value for share, value in held))
    return metrics


def prefixed(role: str, metrics: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each figure with its role in front: loss becomes critic_loss."""
    return {f"{role}_{name}": value for name, value in metrics.items()}


def merge_over_ranks(parts: Sequence[tuple[float, Mapping[str, float | None]]]) -> dict[str, float | None]:
    """The figures of the whole batch, from (share, figures) of each rank. One that is not finite on any rank becomes
    None."""
    metrics = merge_metrics(
        [(share, {n: math.nan if v is None else v for n, v in figures.items()}) for share, figures in parts]
    )
    return {name: None if math.isnan(value) else value for name, value in metrics.items()}


class NonFiniteCounter:
    """Updates skipped so far, by role."""

    def __init__(self, most: int):
        self.most = most
        self.counts = {"student": 0, "critic": 0}

    def add(self, figures: Mapping[str, float | None], when: str) -> None:
        """Counts the skipped updates of one iteration. when: names it in the error.

        Raises:
            TrainingStopped: more than `most` in total.
        """
        for role in self.counts:
            self.counts[role] += round(figures.get(f"{role}_skipped") or 0)
        total = sum(self.counts.values())
        if total > self.most:
            raise TrainingStopped(
                f"{total} updates were not finite ({self.counts['student']} of the student, {self.counts['critic']} of "
                f"the critic), the last at {when}; run.max_skipped_updates is {self.most}. The checkpoints before are "
                "sound: examine or export one, or start a new run with lower learning rates or precision fp32"
            )


class PullMonitor:
    """Counts how often in a row the pull of a specialised teacher is above the bound of the recipe."""

    def __init__(self, plan: WatchPlan):
        self.plan = plan
        self.over: Counter[str] = Counter()  # measurements above the bound in a row, by teacher

    def add(self, pulls: Mapping[str, float]) -> list[str]:
        """Counts the measurements of one iteration. Returns the teachers that have now been above the bound `patience`
        times in a row; their count starts again at 0."""
        for name, pull in pulls.items():
            self.over[name] = self.over[name] + 1 if pull > self.plan.bound else 0
        passed = [name for name in pulls if self.over[name] >= self.plan.patience]
        for name in passed:
            self.over[name] = 0
        return passed


def pulls_of(figures: Mapping[str, float | None]) -> dict[str, float]:
    """The pulls that an iteration measured, by teacher. Those that are not finite are left out, as such an update is
    skipped anyway."""
    named = {key.removeprefix("pull/"): value for key, value in figures.items() if key.startswith("pull/")}
    return {name: value for name, value in named.items() if value is not None}
