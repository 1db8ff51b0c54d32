"""One figure of several, for choosing a checkpoint without a judge.

composite = - sum_j w_j p_j. Each p_j is 0 where the student is as its teacher, and 1 at a gap that one would see. What
a run cannot have (edits without edits, variety with one seed, text without a reader) takes no part. That is the same
for all examinations of a run, so they can be compared.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Means = Mapping[str, float]  # of figures by name


@dataclass(frozen=True)
class CompositePart:
    """
    Args:
        figure: of the catalogue.
        weight: ours, calibrated on the pocket world (docs/examination.md).
        penalty: penalty(value, teacher's own value); 0 is best.
        needs_teacher: whether the teacher's own value must be known.
    """

    figure: str
    weight: float
    penalty: Callable[[float, float], float]
    needs_teacher: bool = True


def _beyond(scale: float) -> Callable[[float, float], float]:
    """Over the teacher's own value, in units of `scale`. Below it there is no penalty."""
    return lambda value, teacher: max(0.0, value - teacher) / scale


def _ratio(scale: float) -> Callable[[float, float], float]:
    """Away from the teacher's own value, either way: |log ratio| in units of `scale`."""
    return lambda value, teacher: abs(float(np.log(max(value, 1e-6) / max(teacher, 1e-6)))) / scale


def _below(scale: float) -> Callable[[float, float], float]:
    return lambda value, teacher: max(0.0, teacher - value) / scale


def _plain(scale: float) -> Callable[[float, float], float]:
    return lambda value, _: value / scale


PARTS = (
    CompositePart("t2i.structure", 1.0, _plain(0.1), needs_teacher=False),
    CompositePart("edit.structure", 1.0, _plain(0.1), needs_teacher=False),
    CompositePart("t2i.saturation", 1.0, _ratio(0.1)),
    CompositePart("edit.saturation", 1.0, _ratio(0.1)),
    CompositePart("t2i.contrast", 1.0, _ratio(0.1)),
    CompositePart("edit.contrast", 1.0, _ratio(0.1)),
    CompositePart("t2i.variety", 0.5, _below(0.2)),
    CompositePart("t2i.text", 1.0, _below(0.1)),
    CompositePart("edit.no_op", 1.0, _beyond(0.1)),
    CompositePart("edit.drift", 1.0, _beyond(1.0)),
    CompositePart("edit.tint", 1.0, _beyond(1.0)),
)


def composite(found: Means, teacher: Means) -> float | None:
    """The composite of an examination's figures; higher is better, 0 the best. None where it has no part at all."""
    parts = [part for part in PARTS if part.figure in found and (part.figure in teacher or not part.needs_teacher)]
    if not parts:
        return None
    return -sum(part.weight * part.penalty(found[part.figure], teacher.get(part.figure, 0.0)) for part in parts)
