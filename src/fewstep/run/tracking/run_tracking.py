"""Trackers beside a run. They follow its folder: what metrics.jsonl and samples/ hold is what they are sent.

So training knows nothing of them. Nor does a run stop for one: a tracker that fails is told once, and given up for this
start of the run.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

from fewstep.run.folder import RunDir
from fewstep.run.tracking.figures_of import figures_by_step
from fewstep.run.tracking.jsonl_tail import JsonlTail
from fewstep.run.tracking.kinds import KINDS
from fewstep.run.tracking.names import TrackerName
from fewstep.run.tracking.sent import read_sent, write_sent
from fewstep.run.tracking.tracker import TrackedRun, Tracker
from fewstep.runtime.reporter import Reporter
from fewstep.train.hooks import OnIteration

NOTHING = -1  # the last step of a tracker that has none


@dataclass(frozen=True)
class _Working:
    """A tracker that is open. has: it is sent the steps after this one."""

    context: AbstractContextManager[Tracker]
    tracker: Tracker
    has: int


class RunTracking:
    """The trackers of one start of a run, as a context around its training.

    Args:
        run: its recipe names the trackers (`track`).
        first: whether this is the first rank. Others track nothing.
    """

    def __init__(self, run: RunDir, reporter: Reporter, first: bool = True):
        self.run, self.reporter, self.names, self.first = run, reporter, run.recipe.track, first
        self._tail, self._begun, self._step = JsonlTail(run.metrics_path), False, NOTHING
        self._working: dict[str, _Working] = {}

    def after(self, then: OnIteration | None) -> OnIteration | None:
        """`on_iteration` of a run that is tracked: the trackers are sent the iteration, then `then` is asked. All ranks
        of a run get one, or none does."""
        if not self.names:
            return then

        def on_iteration(i: int, line: Mapping[str, Any]) -> Literal["stop"] | None:
            self._attempt("all", partial(self._follow, i))
            return then(i, line) if then is not None else None

        return on_iteration

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: Any) -> None:
        """Sends what is left, and closes the trackers. Where training failed before the end of an iteration of its own,
        metrics.jsonl may hold iterations that run again, so nothing is sent."""
        if not (self.names and self.first) or (not self._begun and raised[0] is not None):
            return
        self._attempt("all", self._follow)
        for name, working in list(self._working.items()):
            if self._attempt(name, partial(working.context.__exit__, *raised)):
                self._attempt(name, partial(self._note, name))

    # ---- following

    def _follow(self, settled: int | None = None) -> None:
        """Sends the steps that were written since the last call.

        Args:
            settled: at the first call, the last step that no iteration of this start made; None: all that are there.
        """
        steps = figures_by_step(self._tail.read())
        if not self._begun:
            steps = {0: {}, **steps}  # the untrained student has pictures, and figures only of an examination
            self._begin(max(steps) if settled is None else settled, max(steps))
        for step, values in steps.items():
            pictures = dict(self._pictures(step))
            for name, working in list(self._working.items()):
                if step > working.has:
                    self._attempt(name, partial(_send, working.tracker, step, values, pictures))
        self._step = max([self._step, *steps])

    def _begin(self, settled: int, last: int) -> None:
        """Opens the trackers, but for those that have all steps up to `last`."""
        self._begun, folder = True, self.run.folder
        sent = read_sent(folder, self.run.recipe)
        lacking = [name for name in self.names if sent.steps.get(name) != last]
        write_sent(folder, sent.without(lacking))
        for name in lacking:
            self._attempt(name, partial(self._open, name, sent.identity, settled, sent.steps.get(name)))

    def _open(self, name: TrackerName, identity: str, settled: int, has: int | None) -> None:
        kind = KINDS[name]
        anew = has != settled or not kind.goes_on()
        run = TrackedRun(self.run.folder, identity, self.run.recipe, anew, self.reporter)
        context = kind.open(run)
        self._working[name] = _Working(context, context.__enter__(), NOTHING if anew else settled)

    def _pictures(self, step: int) -> Iterator[tuple[str, Path]]:
        """The contact sheet after so many iterations, and the student's single pictures on it."""
        sheet = self.run.samples / f"iteration-{step:06d}.png"
        if sheet.is_file():
            yield "samples/sheet", sheet
            for file in sorted((self.run.samples / "pictures").glob(f"student-{step:06d}-*.png")):
                yield f"samples/student-{file.stem.rpartition('-')[2]}", file

    def _note(self, name: str) -> None:
        sent = read_sent(self.run.folder, self.run.recipe)
        write_sent(self.run.folder, sent.having(name, self._step))

    def _attempt(self, name: str, call: Callable[[], object]) -> bool:
        """Whether a call went well. Otherwise says so, and gives up the tracker, or `all` of them."""
        try:
            call()
        except Exception as error:  # whatever a tracker's library does; the run must not stop for it
            words = " ".join(str(error).split()) or type(error).__name__
            who = f"tracker {name}" if name != "all" else f"trackers ({', '.join(self.names)})"
            self.reporter.say(
                f"{who}: {words:.300}. The run goes on without; its next start sends all that is missing", "warning"
            )
            for gone in [name] if name != "all" else list(self._working):
                self._give_up(gone)
            return False
        return True

    def _give_up(self, name: str) -> None:
        working = self._working.pop(name, None)
        if working is not None:
            with suppress(Exception):  # it has failed already, and that was told
                working.context.__exit__(None, None, None)


def _send(tracker: Tracker, step: int, values: Mapping[str, float], pictures: Mapping[str, Path]) -> None:
    if values:
        tracker.figures(step, values)
    if pictures:
        tracker.pictures(step, pictures)
