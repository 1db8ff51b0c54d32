"""How a run is doing, in one word and one sentence, from its folder alone."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.run.failure import failure_of
from fewstep.run.studio.holder import Holder, holder_of
from fewstep.run.studio.metrics_file import MetricsFile

RECENT = 30  # iterations that say how fast it goes
SILENT_SECONDS, SILENT_ITERATIONS = 120.0, 10.0  # a process that has written nothing for longer than both is doubted
NEAR_END = 0.25  # of the iterations done: an event in them lights the lamp
LIVING = ("encoding", "training", "finishing", "elsewhere")


@dataclass(frozen=True)
class RunState:
    """state: encoding, training, finishing, elsewhere, done, stopped, failed. words: why, or what it does."""

    state: str
    words: str
    iteration: int
    iterations: int
    seconds: float | None  # of an iteration
    seconds_left: float | None
    process: int | None
    memory: int | None  # bytes of main memory of the process
    gpu_memory: int | None  # most bytes of the first rank's GPU so far

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "living": self.state in LIVING}


def state_of_run(folder: Path, metrics: MetricsFile, recipe: Mapping[str, Any], starting: bool = False) -> RunState:
    """metrics: read up to now. starting: a process was started that does not hold the lock yet."""
    holder, last = holder_of(folder), metrics.last()
    plan = recipe.get("run")
    planned = plan.get("iterations") if isinstance(plan, dict) else None
    iterations = planned if isinstance(planned, int) else 0
    iteration = 0 if last is None else int(last["iteration"]) + 1
    seconds = _seconds(metrics.lines(metrics.trained - RECENT, metrics.trained))
    state, words = _state(folder, holder, metrics, iteration, iterations, seconds)
    if starting and state not in LIVING:
        state, words = "encoding", "a process was started"
    left = (iterations - iteration) * seconds if seconds is not None and state == "training" else None
    alive = holder.process if holder is not None and holder.alive else None
    return RunState(state, words, iteration, iterations, seconds, left, alive, _memory(alive), _gpu_memory(last))


def health(state: RunState, events: Sequence[Mapping[str, Any]], last: Mapping[str, Any] | None) -> str:
    """The lamp: bad, watch, good, or none while there is nothing to judge by."""
    if state.state == "failed" or any(event.get("answer") == "stop" for event in events):
        return "bad"
    skipped = any(last and last.get(f"{role}_skipped") for role in ("student", "critic"))
    bad = [event for event in events if event.get("answer") != "none"]  # training that is stable again is good news
    late = [event for event in bad if event["iteration"] >= state.iteration * (1 - NEAR_END)]
    if skipped or late:
        return "watch"
    return "good" if state.iteration else "none"


def _state(
    folder: Path, holder: Holder | None, metrics: MetricsFile, iteration: int, iterations: int, seconds: float | None
) -> tuple[str, str]:
    if holder is not None and holder.alive:
        return _living(folder, metrics, iteration, iterations, seconds)
    if holder is not None and holder.alive is None:
        return "elsewhere", f"held by process {holder.process} on {holder.machine}, which cannot be seen from here"
    if _has_student(folder):
        early = f"ended after {iteration:,} of {iterations:,} iterations" if 0 < iteration < iterations else ""
        return "done", early
    if (failure := failure_of(folder)) is not None:
        return "failed", failure
    if holder is not None:
        return "failed", (
            f"process {holder.process} ended without closing the run: it was killed, ran out of memory, or the machine "
            "stopped. Resume goes on from the last whole checkpoint"
        )
    return "stopped", "resume goes on from the last whole checkpoint" if iteration else "before its first iteration"


def _living(
    folder: Path, metrics: MetricsFile, iteration: int, iterations: int, seconds: float | None
) -> tuple[str, str]:
    written, begun = _age(metrics.path), _age(folder / "lock")
    if iteration and written is not None and begun is not None and written > begun:
        return "encoding", "goes on: encoding cases, or loading the model"
    if not iteration:
        warm = any(line.get("phase") == "warm-up" for line in metrics.others)
        return ("training", "the critic's warm-up") if warm else ("encoding", "encoding cases, or loading the model")
    if iterations and iteration >= iterations:
        return "finishing", "examining and writing the student"
    if written is not None and written > max(SILENT_SECONDS, SILENT_ITERATIONS * (seconds or 0)):
        return "training", f"nothing written for {written / 60:.0f} minutes: examining, or hanging"
    return "training", ""


def _seconds(lines: Sequence[Mapping[str, Any]]) -> float | None:
    held = [line["seconds"].get("iteration") for line in lines if isinstance(line.get("seconds"), dict)]
    numbers = [float(value) for value in held if isinstance(value, int | float)]
    return sum(numbers) / len(numbers) if numbers else None


def _has_student(folder: Path) -> bool:
    try:
        return any(not path.name.startswith(".") for path in (folder / "student").iterdir())
    except OSError:
        return False


def _age(path: Path) -> float | None:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return None


def _gpu_memory(line: Mapping[str, Any] | None) -> int | None:
    peak = (line or {}).get("gpu_peak_gb")
    return round(peak * 1e9) if isinstance(peak, int | float) else None


def _memory(process: int | None) -> int | None:
    """Bytes of main memory that a process holds; None where the system does not tell."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None
