"""The figures that a run's self-examination can find, without numpy: recipes are checked with them.

Each is a mean over the frozen set, of the student's answers beside the teacher's from the same noise. A name is the
task and the figure, such as `edit.psnr`. `aim` says what is better, so that nobody has to: more, less, or as near as
can be to the teacher's own value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fewstep.runtime.task import Task

COMPOSITE = "composite"
Aim = Literal["higher", "lower", "teacher"]


@dataclass(frozen=True)
class PairedFigure:
    """
    Args:
        aim: which value is better. teacher: the teacher's own, by ratio.
        seeds: how many each prompt needs.
    """

    name: str
    task: Task
    unit: str
    aim: Aim
    words: str
    seeds: int = 1


def _both(name: str, unit: str, aim: Aim, words: str) -> tuple[PairedFigure, ...]:
    return (
        PairedFigure(f"t2i.{name}", "t2i", unit, aim, words),
        PairedFigure(f"edit.{name}", "edit", unit, aim, words),
    )


FIGURES: tuple[PairedFigure, ...] = (
    *_both("psnr", "dB", "higher", "PSNR to the teacher's picture"),
    *_both("structure", "1 - SSIM", "lower", "structural distance to the teacher's picture, over scales"),
    *_both("flat_noise", "levels of 255", "lower", "noise on flat areas"),
    *_both("saturation", "Lab chroma", "teacher", "mean chroma"),
    *_both("contrast", "L*", "teacher", "spread of lightness"),
    PairedFigure("t2i.variety", "t2i", "ratio", "higher", "distance between seeds, over the teacher's", seeds=2),
    PairedFigure("t2i.text", "t2i", "share", "higher", "asked-for words that are read (OCR)"),
    PairedFigure("edit.shift", "edit", "px", "lower", "shift of what the teacher left alone"),
    PairedFigure("edit.tint", "edit", "CIEDE2000", "lower", "mean colour of what the teacher left alone"),
    PairedFigure("edit.drift", "edit", "CIEDE2000", "lower", "change of what the teacher left alone"),
    PairedFigure("edit.no_op", "edit", "share", "lower", "edits that the teacher made and the student did not"),
)
BY_NAME = {figure.name: figure for figure in FIGURES}


def figures_of(tasks: Sequence[Task], seeds: int) -> tuple[PairedFigure, ...]:
    """Those that a set with these tasks, and so many seeds a prompt, can give."""
    return tuple(figure for figure in FIGURES if figure.task in tasks and figure.seeds <= seeds)


def closeness(name: str, value: float, teacher: float | None) -> float:
    """The figure on a scale where more is better: itself, its negative, or minus its distance from the teacher's.

    Args:
        name: of this catalogue; any other (a scorer's) counts as better where it is higher.
        teacher: the teacher's own value; needed where that is the aim.
    """
    figure = BY_NAME.get(name)
    aim = "higher" if figure is None else figure.aim
    if aim == "teacher":
        return -abs(value - (0.0 if teacher is None else teacher))
    return value if aim == "higher" else -value
