"""Whether a run can find the figure that its best checkpoint is chosen by, and which value of it is better. Without
torch."""

from collections.abc import Callable, Mapping
from typing import Protocol

from fewstep.backbones.embedded import HARDER, POCKET
from fewstep.bench.paired.catalogue import BY_NAME, COMPOSITE
from fewstep.data.mixture import used_tasks
from fewstep.run.recipe import Recipe
from fewstep.run.self_exam.plan import JUDGE
from fewstep.runtime.errors import RecipeError
from fewstep.runtime.task import TASKS

# What the examiner of each embedded model finds: a network that reads pictures of its world.
FIGURES: Mapping[str, tuple[str, ...]] = {
    POCKET: ("score", "attributes", "letters", "changed", "exact_psnr", "preserved_psnr", "flat_noise"),
    HARDER: ("score", "t2i_asked", "t2i_drawn", "edit_asked", "edit_drawn", "words", "preserved_psnr"),
}


class OrdersFigures(Protocol):
    def closeness(self, name: str) -> Callable[[float], float]: ...


def refuse_best_without_examiner(recipe: Recipe, own_examiner: bool = False) -> None:
    """
    Args:
        own_examiner: a Python caller brings one. What it finds is known once it has examined.

    Raises:
        RecipeError: `run.best_by` names a figure that nothing would measure, or `examine.patience` waits for none.
    """
    name = recipe.run.best_by
    if name is None:
        if recipe.examine is not None and recipe.examine.patience is not None:
            raise RecipeError(
                "examine.patience waits for a better run.best_by, and that is null; set run.best_by: composite"
            )
        return
    own = own_figures(recipe)
    if name in judged_figures(recipe):
        _refuse_what_does_not_wait(recipe, name)
    if own_examiner or name in own:
        return
    probed = FIGURES.get(recipe.model, ())
    if not probed and not own:
        raise RecipeError(
            f"run.best_by: {name:.60} needs an examiner, and model {recipe.model} has none: only "
            f"{' and '.join(FIGURES)} have their own. Set run.best_by: null, or an examine section (fewstep recipe "
            "schema), or give one in Python (fewstep.distill(examiner=...), docs/extending.md)"
        )
    if name not in probed:
        whose = "its examiner's figures" if not own else "the figures of this run"
        listed = ", ".join((*probed, *own))
        raise RecipeError(f"run.best_by is {name!r:.60}, {_why_not(recipe, name)}but {whose} are: {listed}")


def own_figures(recipe: Recipe) -> tuple[str, ...]:
    """The figures that the run's own examination will have, by its recipe: those of its tasks and seeds, its scorers',
    and the composite."""
    plan = recipe.examine
    if plan is None or recipe.run.examine_every_iterations == 0:
        return ()
    tasks = used_tasks(recipe.mixture)
    sources = tuple(plan.sources(tasks))
    if not sources:
        return ()
    scored = [f"{task}.{name}" for task in sources for name in plan.scorers]
    return (COMPOSITE, *(figure.name for figure in plan.figures(tasks)), *scored, *plan.judged(tasks))


def judged_figures(recipe: Recipe) -> tuple[str, ...]:
    """Those that a judge finds, later than the others."""
    return tuple(name for name in own_figures(recipe) if recipe.examine and name in recipe.examine.judged(TASKS))


def comes_later(recipe: Recipe) -> bool:
    """Whether `run.best_by` is a judge's figure, so that nothing can be ranked while the run trains."""
    return recipe.run.best_by in judged_figures(recipe)


def _refuse_what_does_not_wait(recipe: Recipe, name: str) -> None:
    """A judge's answers come when the checkpoint may be gone, and the run further on."""
    if not recipe.run.keep_students:
        raise RecipeError(
            f"run.best_by is {name}, which a judge finds later: the students must be kept until then. Set "
            "run.keep_students: true"
        )
    if recipe.examine is not None and recipe.examine.patience is not None:
        raise RecipeError(
            f"examine.patience ends a run by figures that are there at once, and run.best_by {name} is a judge's; set "
            "examine.patience: null, or run.best_by: composite"
        )


def best_order(recipe: Recipe, examiner: OrdersFigures) -> Callable[[float], float] | None:
    """What orders the values of `run.best_by`, more being better. None for a figure of another examiner, where
    `run.best_is` says."""
    name = recipe.run.best_by
    return examiner.closeness(name) if name is not None and name in own_figures(recipe) else None


def _why_not(recipe: Recipe, name: str) -> str:
    """What keeps a figure of the catalogue from this run."""
    figure = BY_NAME.get(name)
    plan = recipe.examine
    if plan is not None and plan.judge is None and name in {f"{task}.{JUDGE}" for task in TASKS}:
        return "which needs a judge (examine.judge), "
    if figure is None or plan is None:
        return ""
    if figure.task not in plan.sources(used_tasks(recipe.mixture)):
        return f"and this run examines no {figure.task} (tasks, examine.{figure.task}), "
    return f"which needs {figure.seeds} seeds, and examine.seeds is {plan.seeds}, " if plan.seeds < figure.seeds else ""
