"""Whether the scorers that a recipe names can score, by their folders alone."""

from pathlib import Path

from fewstep.backbones.folder import read_json
from fewstep.backbones.scorers import TWO_TOWERS
from fewstep.run.self_exam.plan import ExaminePlan
from fewstep.runtime.errors import ModelError, RecipeError


def refuse_scorers(plan: ExaminePlan | None) -> None:
    """
    Raises:
        RecipeError: a scorer's folder that is none, or of a model that does not read prompts; with its key.
    """
    for name, folder in ({} if plan is None else plan.scorers).items():
        try:
            kind = str(read_json(Path(folder) / "config.json").get("model_type"))
        except ModelError as error:
            raise RecipeError(f"examine.scorers.{name}: {error}") from error
        if kind not in TWO_TOWERS:
            raise RecipeError(
                f"examine.scorers.{name}: {folder} is a model of type '{kind}'; prompts and pictures are scored by "
                f"{', '.join(TWO_TOWERS)}"
            )
