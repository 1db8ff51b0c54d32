"""The sections `tasks` and `data` of a recipe."""

from collections.abc import Sequence

from pydantic import Field, model_validator

from fewstep.data.mixture import Ratio, Task
from fewstep.errors import RecipeError
from fewstep.plan import Plan


class TasksPlan(Plan):
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


class SourcePlan(Plan):
    """Where cases come from."""

    source: str = Field(
        min_length=1,
        description="a .jsonl file, a .txt file with one prompt a line, or pocket:t2i:N / pocket:edit:N; "
        "of a file with both tasks, the cases of this task",
    )
    category: str | None = Field(None, description="the category of all its cases; null: each case's own")
    weight: int = Field(1, ge=0, description="its share of the task's samples, beside the other sources' weights")


class CategoryWeights(Plan):
    """Shares of the categories, whole numbers. Empty: the sources' weights decide."""

    t2i: dict[str, int] = Field(default_factory=dict, description="category: share of the t2i samples")
    edit: dict[str, int] = Field(default_factory=dict, description="category: share of the edit samples")

    @model_validator(mode="after")
    def _refuse_nothing(self) -> "CategoryWeights":
        for task, weights in (("t2i", self.t2i), ("edit", self.edit)):
            _refuse_weights(list(weights.values()), f"data.category_weights.{task}")
        return self


class DataPlan(Plan):
    """What the student sees."""

    t2i: tuple[SourcePlan, ...] = Field((), description="sources of text-to-image prompts")
    edit: tuple[SourcePlan, ...] = Field((), description="sources of edits")
    category_weights: CategoryWeights = Field(
        default_factory=CategoryWeights, description="shares of the categories; empty: the sources' weights decide"
    )

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> "DataPlan":
        for task, sources, weights in (
            ("t2i", self.t2i, self.category_weights.t2i),
            ("edit", self.edit, self.category_weights.edit),
        ):
            _refuse_weights([source.weight for source in sources], f"data.{task}: the weights of the sources")
            labels = {source.category for source in sources}
            if missing := sorted(name for name in weights if labels and None not in labels and name not in labels):
                raise RecipeError(
                    f"data.category_weights.{task}.{missing[0]}: no source has this category; they have "
                    f"{', '.join(sorted(label for label in labels if label))}"
                )
        return self

    def sources(self, task: Task) -> tuple[SourcePlan, ...]:
        return self.t2i if task == "t2i" else self.edit

    def weights(self, task: Task) -> dict[str, int]:
        return self.category_weights.t2i if task == "t2i" else self.category_weights.edit


def _refuse_weights(weights: Sequence[int], where: str) -> None:
    if any(weight < 0 for weight in weights):
        raise RecipeError(f"{where} hold a negative number; shares are whole numbers from 0, such as 3 and 1")
    if weights and not any(weights):
        raise RecipeError(f"{where} sum to 0; give at least one of them a share")
