"""One run: its pictures over the iterations, curves with events, what it was trained on, its recipe."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from starlette.requests import Request

from fewstep.bench.paired.catalogue import BY_NAME, COMPOSITE
from fewstep.data.declared_shares import declared_categories, declared_tasks
from fewstep.run.folder import RunDir
from fewstep.run.self_exam.pages import event_words, pull_words
from fewstep.run.studio.recipe_rows import recipe_rows
from fewstep.run.studio.run_pictures import picture_groups
from fewstep.run.studio.run_view import RunView
from fewstep.run.studio.shift_picture import shift_map
from fewstep.run.studio.studio import Screen, Studio, asked, number_of, reading
from fewstep.runtime.errors import FewstepError

MOST_EVENTS = 200
FIGURES = ("psnr", "shift", "structure", "tint", "drift", "no_op", "text")  # shown under a picture
WORDS = {"psnr": "PSNR", "no_op": "not made", "text": "words read"}


class RunPage:
    def __init__(self, studio: Studio):
        self.studio = studio

    def page(self, request: Request) -> dict[str, Any]:
        """All but the curves."""
        view = self._view(request)
        groups, faults = picture_groups(view.folder)
        summary = view.summary()
        return {
            "summary": summary,
            "groups": groups,
            "moments": sorted({moment for group in groups for moment in group["moments"]}),
            "events": _events(view.events()),
            "teachers": list((view.teacher() or {}).get("teachers", [])),
            "shares": _shares(view),
            "recipe": recipe_rows(view.recipe()),
            "recipe_text": view.recipe_text(),
            "faults": faults,
        }

    def curves(self, request: Request) -> dict[str, Any]:
        """Every figure over the iterations, and of the examinations with the teacher's band."""
        view = self._view(request)
        with view.lock:
            view.metrics.update()
            curves, whole = view.metrics.curves()
            told = curves.as_dict()
        return {
            "curves": told,
            "complete": whole,
            "iteration": view.metrics.trained,
            "examined": _examined(view),
            "events": _events(view.events()),
        }

    def figures(self, request: Request) -> dict[str, Any]:
        """Figures of each picture of one examination: `case-seed` -> figure -> value."""
        view, iteration = self._view(request), asked(request, "iteration")
        result = view.results().get(number_of(iteration))
        records = result.get("records") if result else None
        whole = [each for each in records if _is_record(each)] if isinstance(records, list) else []
        return {f"{record['case']} {record['seed']}": _shown(record["values"]) for record in whole}

    def shift(self, request: Request) -> dict[str, Any]:
        """Where parts of picture `b` stand against picture `a`: both paths in the run."""
        return shift_map(self._view(request).folder, asked(request, "a"), asked(request, "b"))

    def _view(self, request: Request) -> RunView:
        return self.studio.run(asked(request, "run"))


def _events(events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    shown = [{"iteration": int(e["iteration"]) + 1, "answer": e.get("answer"), "words": _words(e)} for e in events]
    return {"all": len(shown), "shown": shown[-MOST_EVENTS:]}


def _words(event: Mapping[str, Any]) -> str:
    try:
        return event_words(event) if "kind" in event else pull_words(event)
    except (KeyError, TypeError, ValueError):  # of another version, or damaged
        return f"An event of iteration {event['iteration']}."


def _examined(view: RunView) -> list[dict[str, Any]]:
    """One entry a figure: the one that the run chooses by first, then the composite, then those of the catalogue."""
    examined, teacher, few = view.examined(), view.teacher(), view.few()
    bands = teacher.get("band", {}) if teacher else {}
    names = dict.fromkeys(name for figures in examined.values() for name in figures)
    names.pop("examination_seconds", None)
    best = view.best()
    order = [*([best["name"]] if best else []), COMPOSITE, *BY_NAME]
    found = []
    for name in sorted(names, key=lambda n: (order.index(n) if n in order else len(order), n)):
        figure, band = BY_NAME.get(name), bands.get(name)
        found.append(
            {
                "name": name,
                "unit": "" if figure is None else figure.unit,
                "aim": None if figure is None else figure.aim,
                "words": "" if figure is None else figure.words,
                "points": [(i, held[name]) for i, held in examined.items() if name in held],
                "band": band if isinstance(band, dict) else None,
                "few": few.get(name),
            }
        )
    return found


def _is_record(each: Any) -> bool:
    """Whether an examination's file holds figures of a picture there. Anyone may have written that file."""
    return isinstance(each, dict) and {"case", "seed"} <= each.keys() and isinstance(each.get("values"), dict)


def _shown(values: Mapping[str, float]) -> dict[str, float]:
    return {WORDS.get(name, name): values[name] for name in FIGURES if name in values}


def _shares(view: RunView) -> list[dict[str, Any]]:
    """Declared and realised shares of tasks, and of categories as shares of their task."""
    with view.lock:
        last = view.metrics.last()
    if last is None or not isinstance(last.get("tasks"), dict):
        return []
    tasks, categories = last["tasks"], last.get("categories") or {}
    declared = _declared(view, int(last["iteration"]) + 1)
    rows = []
    for task in sorted(tasks, reverse=True):
        rows.append({"name": task, "of": "task", "count": tasks[task], "all": sum(tasks.values())})
        rows[-1]["declared"] = declared.get(task)
        own = {name: count for name, count in categories.items() if name.startswith(f"{task}/")}
        for name, count in sorted(own.items()):
            told = declared.get(name)
            rows.append({"name": name, "of": "category", "count": count, "all": sum(own.values()), "declared": told})
    return rows


def _declared(view: RunView, done: int) -> dict[str, float]:
    """Nothing where the recipe is of another version."""
    try:
        recipe = RunDir.open(view.folder).recipe
    except FewstepError:
        return {}
    found: dict[str, Fraction] = {}
    for task, share in declared_tasks(recipe.mixture, done).items():
        found[task] = share
        shares = declared_categories(recipe.mixture, recipe.data, task, done)
        found |= {f"{task}/{name}": part for name, part in shares.items()}
    return {name: float(share) for name, share in found.items()}


def _routes(studio: Studio) -> list[Any]:
    page = RunPage(studio)
    return [
        reading("/api/run/page", page.page),
        reading("/api/run/curves", page.curves),
        reading("/api/run/figures", page.figures),
        reading("/api/run/shift", page.shift),
    ]


SCREEN = Screen("run", "", _routes)
