"""What a tracker is: a program beside the run that shows figures and pictures over the run's steps.

A step is a number of finished iterations. So the figures of iteration i, which counts from 0, belong to step i + 1, and
so do the pictures and the examination of the student that this iteration made.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fewstep.run.recipe import Recipe
from fewstep.runtime.reporter import Reporter

PROJECT = "fewstep"  # what holds all runs in trackers that sort runs by project


class Tracker(Protocol):
    """Takes what a run found. Steps come in order, and no step twice."""

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the figures of a step, by names such as `distil/critic_loss`."""

    def pictures(self, step: int, files: Mapping[str, Path]) -> None:
        """Takes the pictures of a step, by names such as `samples/sheet`. They are PNG files of the run folder."""


@dataclass(frozen=True)
class TrackedRun:
    """The run that a tracker is opened for.

    Args:
        folder: of the run.
        identity: the recipe's name and a few random digits: two folders of one recipe are two runs.
        recipe: resolved.
        anew: the tracker is sent all steps, and drops what it has of this run. Otherwise it has all steps up to where
            the run goes on, and is sent those after.
        reporter: takes what a user should know of where the tracker writes.
    """

    folder: Path
    identity: str
    recipe: Recipe
    anew: bool
    reporter: Reporter


OpenTracker = Callable[[TrackedRun], AbstractContextManager[Tracker]]
"""Opens a tracker. At the end of the context it has written everything that it took."""
