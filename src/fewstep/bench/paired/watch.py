"""What an examination shows that a healthy run does not: events, relative to the teacher's own values.

Every threshold is ours: set on pocket runs (docs/examination.md), above what healthy ones reach and below what planted
failures show.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

Figures = Mapping[str, float]

VARIETY = 0.75  # of the teacher's distance between seeds (Viggle published 0.75 as a failure)
SATURATION = 1.12  # times the teacher's chroma
SHIFT = 1.0  # px beyond the teacher's own
TINT = 1.0  # CIEDE2000 beyond the teacher's own
NOISE, NOISE_LEVELS = 1.5, 1.0  # times the teacher's, and levels of 255 beyond it
NO_OPS = 0.2  # share of the edits that the teacher makes
GAP = 0.6  # median distance of critic and teachers, relative
WINDOW = 24  # iterations that it is the median of


@dataclass(frozen=True)
class WatchEvent:
    """kind: the key of examine.answers. words: what was seen, in one line. values: the figures behind it."""

    kind: str
    words: str
    values: Mapping[str, float] = field(default_factory=dict)


def events_of(found: Figures, teacher: Figures) -> list[WatchEvent]:
    """The events of one examination of a student that has learnt. A figure that is missing raises none."""
    seen = (look(found, teacher) for look in _WATCHED)
    return [event for event in seen if event is not None]


def _variety(found: Figures, teacher: Figures) -> WatchEvent | None:
    value = found.get("t2i.variety")
    if value is None or value >= VARIETY:
        return None
    words = f"the pictures of one prompt differ {value:.2f} times as much as the teacher's (bound {VARIETY:g})"
    return WatchEvent("variety", words, {"t2i.variety": value})


def _saturation(found: Figures, teacher: Figures) -> WatchEvent | None:
    ratios = _ratios(found, teacher, "saturation")
    over = {name: ratio for name, ratio in ratios.items() if ratio > SATURATION}
    if not over:
        return None
    name, ratio = max(over.items(), key=lambda item: item[1])
    return WatchEvent("saturation", f"{name} is {ratio:.2f} times the teacher's (bound {SATURATION:g})", over)


def _noise(found: Figures, teacher: Figures) -> WatchEvent | None:
    ratios = _ratios(found, teacher, "flat_noise")
    over = {n: r for n, r in ratios.items() if r > NOISE and found[n] - teacher[n] > NOISE_LEVELS}
    if not over:
        return None
    name, ratio = max(over.items(), key=lambda item: item[1])
    words = f"{name} is {found[name]:.2f} levels, {ratio:.2f} times the teacher's (bound {NOISE:g})"
    return WatchEvent("noise", words, {name: found[name] for name in over})


def _shift(found: Figures, teacher: Figures) -> WatchEvent | None:
    return _beyond("edit.shift", SHIFT, "shift", "px", found, teacher)


def _tint(found: Figures, teacher: Figures) -> WatchEvent | None:
    return _beyond("edit.tint", TINT, "tint", "CIEDE2000", found, teacher)


def _no_ops(found: Figures, teacher: Figures) -> WatchEvent | None:
    value = found.get("edit.no_op")
    if value is None or value <= NO_OPS:
        return None
    words = f"{100 * value:.0f} % of the edits that the teacher makes are not made (bound {100 * NO_OPS:.0f} %)"
    return WatchEvent("no_ops", words, {"edit.no_op": value})


def _beyond(name: str, bound: float, kind: str, unit: str, found: Figures, teacher: Figures) -> WatchEvent | None:
    if name not in found or found[name] - teacher.get(name, 0.0) <= bound:
        return None
    own = teacher.get(name, 0.0)
    words = f"{name} is {found[name]:.2f} {unit}, the teacher's own {own:.2f} (bound {bound:g} beyond it)"
    return WatchEvent(kind, words, {name: found[name]})


def _ratios(found: Figures, teacher: Figures, short: str) -> dict[str, float]:
    names = [f"{task}.{short}" for task in ("t2i", "edit")]
    return {name: found[name] / teacher[name] for name in names if name in found and teacher.get(name, 0.0) > 0}


_WATCHED = (_variety, _saturation, _noise, _shift, _tint, _no_ops)


# ---- what training says


def critic_event(gaps: Sequence[float]) -> WatchEvent | None:
    """The critic does not follow the student.

    Healthy pocket runs stay at 0.25 to 0.35. A critic whose rate is ten times too high is at 1.0. Teachers that are
    guided four times as strongly as they should be are at 0.8: those ask for what no student reaches.

    Args:
        gaps: `gap` of the iterations so far, |v_real - v_fake| / |v_real| in the mean over the batch.
    """
    latest = list(gaps)[-WINDOW:]
    if len(latest) < WINDOW:
        return None
    middle = float(np.median(latest))
    if middle <= GAP:
        return None
    words = (
        f"critic and teachers are {middle:.2f} apart over the last {WINDOW} iterations (bound {GAP:g}): the critic "
        "does not follow the student, or the teachers' guidance asks for more than a student can reach"
    )
    return WatchEvent("critic_lag", words, {"gap": middle})


def average_event(decay: float) -> WatchEvent | None:
    """The student that ships is no average. No figure of a picture shows it, since one update looks like another; so it
    is read from the recipe."""
    if decay > 0:
        return None
    return WatchEvent("average", "student.ema is 0: what ships is the raw student of one update", {"student.ema": 0.0})
