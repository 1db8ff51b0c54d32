"""What a model may not teach, and what its student inherits: told before the first long step."""

from fewstep.backbones.conditioning_estimate import local_index
from fewstep.backbones.embedded import is_embedded, model_folder
from fewstep.backbones.fake_model import ModelSize
from fewstep.backbones.families import family_of
from fewstep.backbones.folder import folder_of, read_index, read_json
from fewstep.backbones.licences import InheritedLicence, inherited_licence
from fewstep.roles.plan import TeachersSpec
from fewstep.roles.teacher_plan import teacher_plan
from fewstep.runtime.errors import RecipeError
from fewstep.runtime.reporter import Reporter
from fewstep.runtime.task import Task


def licence_of_model(model: str) -> InheritedLicence:
    """What a student of a folder, a hub id or "pocket" inherits.

    Raises:
        ModelError: not found, or of an unknown family.
    """
    folder = model_folder(model)
    makers = family_of(folder).makers_licence(read_json(folder / "transformer" / "config.json"))
    return inherited_licence(folder, makers)


def planned_licence(model: str, size: ModelSize) -> InheritedLicence:
    """The same for a model that need not be on this machine."""
    index = local_index(model)
    return inherited_licence(None if index is None else index.parent, size.family.makers_licence(size.config))


def models_of(model: str, teachers: TeachersSpec, steps: int) -> dict[str, str]:
    """The models that teach, by the recipe's key: the base, and every other with weight."""
    used = teacher_plan(teachers, steps).used[1:]
    named = {f"teachers.named.{name}.model": teachers.named[name].model for name in used}
    return {"model": model, **{key: one for key, one in named.items() if one is not None}}


def refuse_distilled(models: dict[str, str]) -> None:
    """Refuses models that were distilled already: they follow no guidance, and their answers at other noise levels than
    their own mean nothing.

    Raises:
        RecipeError: with the model to take in its place. ModelError: as `licence_of_model`.
    """
    for key, model in models.items():
        if is_embedded(model):
            continue
        folder = folder_of(model)
        if found := family_of(folder).distilled(folder):
            raise RecipeError(f"{key}: {model} {found}")


def refuse_untaught_tasks(models: dict[str, str], tasks: tuple[Task, ...]) -> None:
    """Refuses a recipe with edits whose base only draws from text.

    Raises:
        RecipeError: with the remedy.
    """
    if "edit" not in tasks or is_embedded(models["model"]):
        return
    folder = folder_of(models["model"])
    family, name = family_of(folder), read_index(folder)["_class_name"]
    if "edit" not in family.task_pipelines(name):
        others = [kind for kind in family.pipelines if "edit" in family.task_pipelines(kind)]
        remedy = f"take a model of {' or '.join(others)}" if others else f"no model of {family.family} edits"
        raise RecipeError(
            f"tasks.edit: {models['model']} ({name}) draws from text alone; {remedy}, or set tasks.edit=0 and leave "
            "the edit cases out"
        )


def tell_licences(models: dict[str, str], reporter: Reporter) -> None:
    """Says which models forbid commercial use. A student inherits that."""
    for key, model in models.items():
        found = licence_of_model(model)
        if found.licence.commercial is False:
            reporter.say(f"{key}: {model} is under {found.words}", "warning")
