"""The health of a run: what is recorded at each iteration, and what is answered.

cosine and gap compare critic and teachers (healthy: cosine about .98, gap small and steady); norms are those before
clipping; an update whose loss or norm is not finite is skipped, and too many of them stop the run.
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

COUNT_METRIC = "left_out"  # the one figure that counts samples

MetricT = TypeVar("MetricT", float, Tensor)


class StepTimer:
    """Seconds by part of an iteration. On a GPU by events in its stream, so that measuring waits for nothing."""

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
        """By part, since last asked. Ask once the iteration's figures have been read: events are complete then."""
        for name, start, end in self._events:
            self._seconds[name] += start.elapsed_time(end) / 1000
        taken = {name: round(seconds, 4) for name, seconds in self._seconds.items()}
        self._events.clear()
        self._seconds.clear()
        return taken


def to_host(metrics: Mapping[str, Tensor]) -> dict[str, float | None]:
    """The figures of an iteration on the host, in one transfer: the one place where the loop waits for the device.
    None stands for what is not finite, which JSON cannot say."""
    values = torch.stack([value.detach().float() for value in metrics.values()]).tolist()
    return {name: value if math.isfinite(value) else None for name, value in zip(metrics, values, strict=True)}


def merge_metrics(parts: Sequence[tuple[float, Mapping[str, MetricT]]]) -> dict[str, MetricT]:
    """Figures of a whole, from each part's share and figures: the mean weighted by samples, of the parts that have the
    figure (teachers that a part's categories do not ask measure nothing there); counts add up. For figures that are no
    means of samples (rms, ratios) it is the mean of the parts' own."""
    if len(parts) == 1:
        return dict(parts[0][1])
    metrics: dict[str, MetricT] = {}
    for name in dict.fromkeys(name for _, figures in parts for name in figures):
        held = [(share, figures[name]) for share, figures in parts if name in figures]
        whole = 1.0 if name == COUNT_METRIC else sum(share for share, _ in held)
        metrics[name] = reduce(add, (value if name == COUNT_METRIC else share / whole * value for share, value in held))
    return metrics


def prefixed(role: str, metrics: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each figure under its role: loss becomes critic_loss."""
    return {f"{role}_{name}": value for name, value in metrics.items()}


def merge_over_ranks(parts: Sequence[tuple[float, Mapping[str, float | None]]]) -> dict[str, float | None]:
    """One iteration's figures of the whole batch, from those of each rank; one that is not finite on some rank is None
    for all."""
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
        """Count this iteration's.

        Raises:
            TrainingStopped: more than the declared number in all.
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
    """The specialised teachers' pulls, held against the declared bound."""

    def __init__(self, plan: WatchPlan):
        self.plan = plan
        self.over: Counter[str] = Counter()  # measurements above the bound in a row, by teacher

    def add(self, pulls: Mapping[str, float]) -> list[str]:
        """Count one iteration's measurements. The teachers that have now passed the bound as often in a row as
        `patience` says; their count begins anew."""
        for name, pull in pulls.items():
            self.over[name] = self.over[name] + 1 if pull > self.plan.bound else 0
        passed = [name for name in pulls if self.over[name] >= self.plan.patience]
        for name in passed:
            self.over[name] = 0
        return passed


def pulls_of(figures: Mapping[str, float | None]) -> dict[str, float]:
    """The pulls that an iteration measured, by teacher. One that is not finite is left out: its update was too."""
    named = {key.removeprefix("pull/"): value for key, value in figures.items() if key.startswith("pull/")}
    return {name: value for name, value in named.items() if value is not None}
