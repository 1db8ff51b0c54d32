"""The sections `tasks` and `data` of a recipe. A setting that may change over a run is either one value or a list of
phases."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from fewstep.data.mixture import (
    Ratio,
    used_tasks,
)
from fewstep.data.phases import (
    Phases,
    constant,
    phases_of,
    refuse_beyond,
    zip_phases,
)
from fewstep.runtime.errors import RecipeError
from fewstep.runtime.section import Section
from fewstep.runtime.task import TASKS, Task

MAX_SIDE = 16_384  # px, ours
CompositionPreset = Literal["E1", "E2", "E3", "E4", "E5"]
PRESETS: dict[str, dict[str, int]] = {  # paper, table 1: equal numbers of prompts of each category
    "E1": {"landscape": 1},
    "E2": {"portrait": 1},
    "E3": {"text": 1},
    "E4": {"landscape": 1, "portrait": 1},
    "E5": {"landscape": 1, "portrait": 1, "text": 1},
}
UNTIL = "holds before this iteration; the last entry of a schedule has none"


def _branch(value: Any) -> str:
    return "schedule" if isinstance(value, list | tuple) else "one"


ONE_OR_SCHEDULE = Discriminator(_branch)  # so that a mistake in one form is not reported as one in the other


class TasksPlan(Section):
    """How many batches of each task, as in 5:5."""

    t2i: int = Field(5, description="text-to-image batches out of every t2i + edit; 0 for none")
    edit: int = Field(5, description="edit batches out of every t2i + edit; 0 for none")

    @model_validator(mode="after")
    def _refuse_nothing(self) -> "TasksPlan":
        Ratio(self.t2i, self.edit)
        return self

    @property
    def ratio(self) -> Ratio:
        return Ratio(self.t2i, self.edit)


class TasksPhase(Section):
    """A ratio for a part of the run."""

    until: int | None = Field(None, description=UNTIL)
    t2i: int = Field(description="text-to-image batches out of every t2i + edit")
    edit: int = Field(description="edit batches out of every t2i + edit")

    @model_validator(mode="after")
    def _refuse_nothing(self) -> "TasksPhase":
        Ratio(self.t2i, self.edit)
        return self

    @property
    def ratio(self) -> Ratio:
        return Ratio(self.t2i, self.edit)


TasksSection = (
    Annotated[TasksPlan, Tag("one")] | Annotated[tuple[TasksPhase, ...], Tag("schedule")]
)  # stands in Recipe with ONE_OR_SCHEDULE


def mixture_of(tasks: TasksPlan | tuple[TasksPhase, ...]) -> Phases[Ratio]:
    """The task ratio over the run.

    Raises:
        RecipeError: the schedule is malformed.
    """
    if isinstance(tasks, TasksPlan):
        return constant(tasks.ratio)
    return phases_of([phase.ratio for phase in tasks], [phase.until for phase in tasks], "tasks")


class WeightPhase(Section):
    """A source's weight for a part of the run."""

    until: int | None = Field(None, description=UNTIL)
    weight: int = Field(ge=0, description="its share of the task's samples, then")


class SourcePlan(Section):
    """Where cases come from."""

    source: str = Field(
        min_length=1,
        description="a .jsonl, .csv, .parquet or .tar file, a .txt file with one prompt a line, a folder of x.png + "
        "x.txt, a pattern such as shards/*.tar, or pocket:t2i:N / pocket:edit:N (docs/cases.md); of a source with both "
        "tasks, the cases of this task",
    )
    category: str | None = Field(None, description="the category of all its cases; null: each case's own")
    weight: Annotated[int, Field(ge=0), Tag("one")] | Annotated[tuple[WeightPhase, ...], Tag("schedule")] = Field(
        1,
        discriminator=ONE_OR_SCHEDULE,
        description="its share of the task's samples, beside the other sources' weights; or a schedule of them",
    )

    def weights(self, where: str) -> Phases[int]:
        if isinstance(self.weight, int):
            return constant(self.weight)
        return phases_of([p.weight for p in self.weight], [p.until for p in self.weight], f"{where}.weight")


class CategoryPhase(Section):
    """Shares of the categories for a part of the run."""

    until: int | None = Field(None, description=UNTIL)
    weights: dict[str, int] = Field(min_length=1, description="category: share of the task's samples, then")


Shares = Annotated[dict[str, int], Tag("one")] | Annotated[tuple[CategoryPhase, ...], Tag("schedule")]


class CategoryWeights(Section):
    """Shares of the categories, whole numbers. Empty: the sources' weights decide."""

    t2i: Shares = Field(
        default_factory=dict,
        discriminator=ONE_OR_SCHEDULE,
        description="category: share of the t2i samples; or a schedule of them",
    )
    edit: Shares = Field(
        default_factory=dict,
        discriminator=ONE_OR_SCHEDULE,
        description="category: share of the edit samples; or a schedule of them",
    )

    @model_validator(mode="after")
    def _refuse_nothing(self) -> "CategoryWeights":
        for task in TASKS:
            for weights in self.of(task).values:
                _refuse_weights(list(weights.values()), f"data.category_weights.{task}")
        return self

    def of(self, task: Task) -> Phases[dict[str, int]]:
        given = self.t2i if task == "t2i" else self.edit
        if isinstance(given, dict):
            return constant(given)
        where = f"data.category_weights.{task}"
        return phases_of([phase.weights for phase in given], [phase.until for phase in given], where)


class SizeShare(Section):
    """One of the sizes at which prompts are trained."""

    size: tuple[int, int] = Field(description="[height, width] in px")
    weight: int = Field(1, ge=1, description="its share of the prompts, beside the other sizes' weights")

    @field_validator("size")
    @classmethod
    def _sides(cls, size: tuple[int, int]) -> tuple[int, int]:
        if not all(0 < side <= MAX_SIDE for side in size):
            raise ValueError(f"size {list(size)} is no picture; give [height, width] in px, such as [832, 1248]")
        return size


class SizesPlan(Section):
    """At which sizes cases are trained that state none."""

    t2i: tuple[SizeShare, ...] = Field(
        (),
        description="sizes of text to image, each with its share; a prompt gets one of them, drawn from seed and id. "
        "Empty: all at `size`",
    )
    edit: Literal["reference", "recipe"] = Field(
        "reference",
        description="reference: the size that the model's own pipeline gives an edit of these references, as samplers "
        "do; recipe: `size`",
    )

    @model_validator(mode="after")
    def _refuse_twice(self) -> "SizesPlan":
        sizes = [share.size for share in self.t2i]
        twice = next((size for size in sizes if sizes.count(size) > 1), None)
        if twice is not None:
            raise RecipeError(f"data.sizes.t2i names {list(twice)} twice; name it once, with the sum of the weights")
        return self


class DataPlan(Section):
    """What the student sees."""

    t2i: tuple[SourcePlan, ...] = Field((), description="sources of text-to-image prompts")
    edit: tuple[SourcePlan, ...] = Field((), description="sources of edits")
    preset: CompositionPreset | None = Field(
        None,
        description="a composition of the paper's table 1, in place of category_weights.t2i: E1 landscape, "
        "E2 portrait, E3 text, E4 landscape + portrait, E5 all three",
    )
    category_weights: CategoryWeights = Field(
        default_factory=CategoryWeights, description="shares of the categories; empty: the sources' weights decide"
    )
    sizes: SizesPlan = Field(
        default_factory=lambda: SizesPlan.model_validate({}),
        description="at which sizes cases are trained that state none",
    )

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> "DataPlan":
        if self.preset and self.category_weights.t2i:
            raise RecipeError("data.preset and data.category_weights.t2i exclude each other; leave one of them out")
        for task in TASKS:
            self._refuse_sources_without_weight(task)
            self._refuse_unknown_categories(task)
        return self

    def sources(self, task: Task) -> tuple[SourcePlan, ...]:
        return self.t2i if task == "t2i" else self.edit

    def source_weights(self, task: Task) -> Phases[tuple[int, ...]]:
        """Every source's weight, in the order of the sources."""
        found: Phases[tuple[int, ...]] = constant(())
        for number, source in enumerate(self.sources(task)):
            merged = zip_phases(found, source.weights(f"data.{task}.{number}"))
            found = Phases(tuple((*weights, weight) for weights, weight in merged.values), merged.ends)
        return found

    def category_shares(self, task: Task) -> Phases[dict[str, int]]:
        """Categories and their shares; empty if the sources' weights decide."""
        if task == "t2i" and self.preset:
            return constant(PRESETS[self.preset])
        return self.category_weights.of(task)

    def name_of_shares(self, task: Task) -> str:
        """The key that `category_shares` comes from."""
        return f"data.preset {self.preset}" if task == "t2i" and self.preset else f"data.category_weights.{task}"

    def refuse_beyond(self, iterations: int) -> None:
        """
        Raises:
            RecipeError: a schedule goes on after the run has ended.
        """
        for task in TASKS:
            for number, source in enumerate(self.sources(task)):
                where = f"data.{task}.{number}.weight"
                refuse_beyond(source.weights(f"data.{task}.{number}"), iterations, where)
            refuse_beyond(self.category_weights.of(task), iterations, f"data.category_weights.{task}")

    def _refuse_sources_without_weight(self, task: Task) -> None:
        weights = self.source_weights(task)
        for start, values in zip((0, *weights.ends), weights.values, strict=True):
            since = f" from iteration {start} on" if start else ""
            _refuse_weights(values, f"data.{task}: the weights of the sources{since}")

    def _refuse_unknown_categories(self, task: Task) -> None:
        labels = {source.category for source in self.sources(task)}
        if not labels or None in labels:
            return  # the cases bring categories of their own: known once they are read
        for shares in self.category_shares(task).values:
            if missing := sorted(name for name in shares if name not in labels):
                raise RecipeError(
                    unknown_category(self.name_of_shares(task), missing[0], [label for label in labels if label])
                )


def unknown_category(where: str, name: str, known: Sequence[str]) -> str:
    """The message about a category that no source has."""
    place = f"{where} needs {name}" if where.startswith("data.preset") else f"{where}.{name}"
    return (
        f"{place}: no source has this category; they have {', '.join(sorted(known))}. "
        "Use one of these, or give a source this `category`"
    )


def _refuse_weights(weights: Sequence[int], where: str) -> None:
    if any(weight < 0 for weight in weights):
        raise RecipeError(f"{where} hold a negative number; shares are whole numbers from 0, such as 3 and 1")
    if weights and not any(weights):
        raise RecipeError(f"{where} sum to 0; give at least one of them a share")


def refuse_unreachable(tasks: TasksPlan | tuple[TasksPhase, ...], data: DataPlan, iterations: int) -> None:
    """
    Raises:
        RecipeError: a schedule runs backwards or past the end, or a task has no sources.
    """
    mixture = mixture_of(tasks)
    refuse_beyond(mixture, iterations, "tasks")
    data.refuse_beyond(iterations)
    for task in used_tasks(mixture):
        if not data.sources(task):
            batches = max(ratio.weights[TASKS.index(task)] for ratio in mixture.values)
            raise RecipeError(
                f"tasks.{task} is {batches} but data.{task} names no source; name one, or set tasks.{task} to 0"
            )
