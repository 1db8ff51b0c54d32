"""All that the studio knows of one run, read from its folder and kept until the folder changes.

Recipes are read as plain keys: a run of another version, whose recipe would be refused, can still be looked at.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import Any

from fewstep.bench.paired.catalogue import BY_NAME, closeness
from fewstep.run.self_exam.results import read_few, read_results, read_teacher
from fewstep.run.studio.jobs import Job
from fewstep.run.studio.metrics_file import MetricsFile
from fewstep.run.studio.run_state import RunState, health, state_of_run
from fewstep.runtime import strict_yaml
from fewstep.runtime.errors import FewstepError

EXAMINATION = "examination"
SPARKS = 48  # points of a sparkline


class RunView:
    """Every method may be called from any thread."""

    def __init__(self, name: str, folder: Path):
        self.name, self.folder = name, folder
        self.lock = RLock()
        self.metrics = MetricsFile(folder / "metrics.jsonl")
        self._recipe: tuple[int, dict[str, Any], str] = (-1, {}, "")
        self._results: tuple[object, dict[int, dict[str, Any]]] = (None, {})
        self._teacher: tuple[object, Mapping[str, Any] | None] = (None, None)
        self._summary: tuple[object, dict[str, Any]] = (None, {"living": True})
        self.asked_to_stop: int | None = None  # the process
        self.job: Job | None = None  # that this studio started for it last
        self.faults: dict[str, str] = {}  # what cannot be read, by file

    def recipe(self) -> dict[str, Any]:
        """The recipe's keys; none where it cannot be read."""
        path = self.folder / "recipe.yaml"
        with self.lock:
            stamp = _stamp(path)
            if stamp != self._recipe[0]:
                self._recipe = stamp, *self._read_recipe(path)
            return self._recipe[1]

    def recipe_text(self) -> str:
        self.recipe()
        return self._recipe[2]

    def summary(self) -> dict[str, Any]:
        """One line of the list of runs."""
        with self.lock:
            try:
                self.metrics.update()
            except OSError as error:  # not ours to read, or no file
                return self._unreadable(error)
            mark = self._mark()
            if mark != self._summary[0] or self._summary[1]["living"]:  # what lives changes by the clock alone
                try:
                    self._summary = mark, self._summarised()
                except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
                    self._summary = mark, self._unreadable(error)
            return self._summary[1]

    @property
    def is_read(self) -> bool:
        """Whether a summary was made before, so that the next one is quick: a long file is read once."""
        return self._summary[0] is not None

    def unread(self) -> dict[str, Any]:
        """A line of the list for a run that is still to be read."""
        return self._blank("reading", "its metrics are being read")

    def _summarised(self) -> dict[str, Any]:
        recipe, events, best = self.recipe(), self.events(), self.best()
        state, last, damage = self._state(recipe), self.metrics.last(), self.damage()
        return {
            "name": self.name,
            "folder": str(self.folder),
            "recipe": recipe.get("name"),
            "model": recipe.get("model"),
            **state.as_dict(),
            "health": "bad" if damage else health(state, events, last) if recipe else "none",
            "resumable": bool(recipe) and state.state in ("stopped", "failed"),
            "events": len(events),
            "best": best,
            "spark": self.spark(),
            "damage": damage,
            "changed": _changed(self.metrics.path),
        }

    def _unreadable(self, error: Exception) -> dict[str, Any]:
        """The line of a run whose files hold something else than a run writes. The others are shown all the same."""
        told = self._blank("unreadable", f"its files cannot be understood ({type(error).__name__}: {error!s:.200})")
        return {**told, "health": "bad"}

    def _blank(self, state: str, words: str) -> dict[str, Any]:
        blank = RunState(state, words, 0, 0, None, None, None, None, None).as_dict()
        nothing = {
            "resumable": False,
            "recipe": None,
            "model": None,
            "health": "none",
            "events": 0,
            "best": None,
            "spark": None,
        }
        told = {"name": self.name, "folder": str(self.folder), **blank, **nothing}
        return {**told, "damage": self.damage(), "changed": _changed(self.metrics.path)}

    def _mark(self) -> object:
        """Changes when anything does that the summary tells."""
        places = ("recipe.yaml", "lock", "failure.json", "student", "examination/results", "examination/teacher.json")
        stamps = tuple(_stamp(self.folder / place) for place in (*places, "examination/judge"))
        working = self.job is not None and self.job.code is None
        return (
            *stamps,
            self.metrics.generation,
            self.metrics.trained,
            len(self.metrics.others),
            self.metrics.damaged,
            working,
        )

    def _state(self, recipe: Mapping[str, Any]) -> RunState:
        starting = self.job is not None and self.job.code is None
        found = state_of_run(self.folder, self.metrics, recipe, starting)
        if found.process is not None and found.process == self.asked_to_stop:
            return replace(found, words="asked to stop; it saves after the present iteration")
        if not recipe and found.process is None:
            why = self.faults.get("recipe.yaml", "it holds no keys")
            return replace(found, words=f"its recipe.yaml cannot be read, so it cannot be resumed ({why:.200})")
        return found

    def damage(self) -> list[str]:
        """What of its files cannot be read, as far as they were read, in sentences."""
        count = self.metrics.damaged
        lines = (
            [f"{count:,} {'lines' if count > 1 else 'line'} of metrics.jsonl cannot be read, and left out"]
            if count
            else []
        )
        return [*lines, *(f"{name}: {why}" for name, why in self.faults.items())]

    def events(self) -> list[dict[str, Any]]:
        return [line for line in self.metrics.others if line.get("phase") == "event"]

    def examined(self) -> dict[int, dict[str, float]]:
        """Figures of the examinations on the way, by iterations done, from metrics.jsonl and from the run's own
        examination folder."""
        found: dict[int, dict[str, float]] = {}
        for line in self.metrics.others:
            if line.get("phase") == "examine":
                rest = {k: float(v) for k, v in line.items() if isinstance(v, int | float) and k != "iteration"}
                found.setdefault(int(line["iteration"]), {}).update(rest)
        for iteration, result in self.results().items():
            figures = result.get("figures")
            found.setdefault(iteration, {}).update(figures if isinstance(figures, dict) else {})
        return dict(sorted(found.items()))

    def results(self) -> dict[int, dict[str, Any]]:
        """Results of the run's own examinations, by iterations done."""
        folder = self.folder / EXAMINATION
        with self.lock:
            stamp = (_stamp(folder / "results"), _stamp(folder / "judge"))
            if stamp != self._results[0]:
                self._results = stamp, self._read("results", lambda: read_results(folder), {})
            return self._results[1]

    def teacher(self) -> Mapping[str, Any] | None:
        """What the teachers' own answers are like, with a band for each figure."""
        folder = self.folder / EXAMINATION
        with self.lock:
            stamp = (_stamp(folder / "teacher.json"), _stamp(folder / "judge"))
            if stamp != self._teacher[0]:
                self._teacher = stamp, self._read("teacher.json", lambda: read_teacher(folder), None)
            return self._teacher[1]

    def few(self) -> Mapping[str, Any]:
        """Figures of the teachers at the student's few steps; empty where the run did not draw them."""
        found: Mapping[str, Any] | None = self._read(
            "teacher at few steps", lambda: read_few(self.folder / EXAMINATION), None
        )
        return (found or {}).get("figures", {})

    def best(self) -> dict[str, Any] | None:
        """The best value so far of the figure that the recipe chooses by."""
        plan = self.recipe().get("run")
        plan = plan if isinstance(plan, dict) else {}
        name = plan.get("best_by")
        values = {i: held[name] for i, held in self.examined().items() if i and name in held}
        if not values or not isinstance(name, str):
            return None
        taught = self._taught(name)
        sign = -1 if plan.get("best_is") == "lowest" else 1
        known = name in BY_NAME
        at = max(values, key=lambda i: (closeness(name, values[i], taught) if known else sign * values[i], -i))
        return {"name": name, "value": values[at], "iteration": at, "teacher": taught}

    def spark(self) -> dict[str, Any] | None:
        """A few values of one figure over the run: the distance of critic and teachers."""
        lines = self.metrics.spread(SPARKS)
        values = [line.get("gap", line.get("student_loss")) for line in lines]
        numbers = [float(f"{value:.4g}") for value in values if isinstance(value, int | float)]
        return {"name": "gap" if lines and "gap" in lines[-1] else "loss", "values": numbers} if numbers else None

    def _taught(self, name: str) -> float | None:
        teacher = self.teacher()
        band = teacher.get("band", {}).get(name) if teacher else None
        return band.get("value") if isinstance(band, dict) else None

    def _read_recipe(self, path: Path) -> tuple[dict[str, Any], str]:
        def read() -> tuple[dict[str, Any], str]:
            text = path.read_text(encoding="utf-8", errors="replace")
            held = strict_yaml.load_yaml(text, path.name)
            return (held if isinstance(held, dict) else {}), text

        found: tuple[dict[str, Any], str] = self._read("recipe.yaml", read, ({}, ""))
        return found

    def _read(self, what: str, read: Any, otherwise: Any) -> Any:
        """What `read` gives. A fault is kept in `faults`, for the page."""
        self.faults.pop(what, None)
        try:
            return read()
        except (FewstepError, OSError, ValueError, KeyError, TypeError) as error:
            self.faults[what] = str(error)
            return otherwise


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _changed(path: Path) -> float | None:
    """When something was last written, in seconds since 1970."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None
