"""Checks of the teachers, and of the LoRA that the student starts from, before anything is loaded.

Files must be complete, and keys and shapes must be those of the base. Adapters are read whole, because they are small.
Of models only the headers of the weight files are read.
"""

from collections.abc import Iterable, Mapping

from fewstep.backbones.embedded import model_folder
from fewstep.backbones.families import ModelShapes, adapter_path, family_of_model, model_shapes, refuse_unusable_model
from fewstep.backbones.pipeline_backbone import PipelineBackbone
from fewstep.lora import file as lora_file
from fewstep.lora.factors import Factors
from fewstep.lora.keys import Shapes, to_diffusers_names
from fewstep.lora.naming import naming
from fewstep.lora.truncation import TruncatedFactors, truncate
from fewstep.roles.plan import CriticPlan, StudentPlan, TeachersSpec
from fewstep.roles.targets import target_modules
from fewstep.roles.teacher_plan import teacher_plan
from fewstep.runtime.errors import AdapterError, ModelError, RecipeError


def validate_teachers(spec: TeachersSpec, steps: int, base: str) -> None:
    """Checks every specialised teacher that the plan ever gives weight against the model `base`.

    Raises:
        AdapterError, ModelError: a teacher that does not fit. The message names its key in the recipe, the file, and
            what does not fit.
    """
    used = {name: spec.named[name] for name in teacher_plan(spec, steps).used[1:]}
    adapters = {name: one.adapter for name, one in used.items() if one.adapter is not None}
    read = {}
    for name, source in adapters.items():
        with naming(f"teachers.named.{name}", "adapter"):
            read[name] = lora_file.read_lora(adapter_path(source))
    if not used:
        return
    ours, family = model_shapes(base), family_of_model(base)
    for name, factors in read.items():
        with naming(f"teachers.named.{name}", "adapter"):
            refuse_encoded_layers(family, to_diffusers_names(factors, ours.linear_shapes, adapters[name]))
    for name, one in used.items():
        if one.model is not None:
            with naming(f"teachers.named.{name}", "model"):
                refuse_unusable_model(one.model, "transformer")
                refuse_other_model(model_shapes(one.model), ours, one.model, base)
                refuse_other_encoding(family, one.model, base)


def validate_init_from(student: StudentPlan, base: str) -> TruncatedFactors | None:
    """Checks the LoRA that the student starts from, if there is one, against the model `base`.

    Returns what is cut off of it if the student's adapter has a lower rank; None if nothing is.

    Raises:
        AdapterError: it cannot be read, or does not fit the base.
    """
    if student.init_from is None:
        return None
    with naming("student.init_from"):
        found, cut = truncated_lora(student.init_from, model_shapes(base).linear_shapes, _room(student))
        refuse_encoded_layers(family_of_model(base), found)
        return cut


def validate_targets(student: StudentPlan, critic: CriticPlan, base: str) -> list[str]:
    """Checks `adapter.targets` of both roles against the model `base`.

    Returns the layers that the student's LoRA (`student.init_from`) changes beyond its targets. Its adapter takes them
    in as well, or it would not start as that LoRA.

    Raises:
        RecipeError: patterns that no layer has; the message names the role's key.
        AdapterError: as `validate_init_from`.
    """
    family, shapes = family_of_model(base), model_shapes(base).linear_shapes
    chosen: dict[str, list[str]] = {}
    for role, plan in {"student": student, "critic": critic}.items():
        if plan.mode == "adapter":
            try:
                chosen[role] = target_modules(plan.adapter.targets, family, shapes)
            except RecipeError as error:
                raise RecipeError(f"{role}.{error}") from error
    if student.init_from is None or "student" not in chosen:
        return []
    return sorted(initial_update(student, shapes).keys() - set(chosen["student"]))


def initial_update(student: StudentPlan, shapes: Shapes) -> Mapping[str, Factors]:
    """The update that the student starts with, by the base's module names; empty if none is given.

    If its rank is higher than that of the student's adapter, the result is the nearest update of the adapter's rank.

    Raises:
        AdapterError: as `validate_init_from`.
    """
    return {} if student.init_from is None else truncated_lora(student.init_from, shapes, _room(student))[0]


def truncated_lora(
    source: str, shapes: Shapes, rank: int | None
) -> tuple[Mapping[str, Factors], TruncatedFactors | None]:
    """A LoRA for a base of these shapes, cut down to `rank` if its rank is higher; and what the cut left out, if any.

    Raises:
        AdapterError: it cannot be read, or does not fit.
    """
    found = to_diffusers_names(lora_file.read_lora(adapter_path(source)), shapes, source)
    if rank is None or max(update.rank for update in found.values()) <= rank:
        return found, None
    cut = truncate(found, rank)
    return cut.updates, cut


def _room(student: StudentPlan) -> int | None:
    """The highest rank that the student can hold; None for a full copy, which holds any."""
    return student.adapter.rank if student.mode == "adapter" else None


def refuse_encoded_layers(family: type[PipelineBackbone], changed: Iterable[str]) -> None:
    """Checks that a LoRA leaves the layers alone whose answers are encoded and stored.

    Raises:
        AdapterError: it changes one.
    """
    if held := sorted(set(changed) & set(family.encoded_layers)):
        raise AdapterError(
            f"it changes {held[0]}, whose answer to a text is what {family.family} encodes and stores; remove this "
            "layer from the file"
        )


def refuse_other_encoding(family: type[PipelineBackbone], model: str, base: str) -> None:
    """Checks that a teacher has the base's layers where their answers are what a store holds.

    Raises:
        ModelError: it has others.
    """
    theirs, ours = (family.encoded_identity(model_folder(one)) for one in (model, base))
    if theirs != ours:
        raise ModelError(
            f"the teacher {model} has another {family.encoded_layers[0]} than {base}; what this layer answers "
            "to a text is encoded and stored, once for all. Take a teacher that was trained with it frozen"
        )


def refuse_other_model(theirs: ModelShapes, ours: ModelShapes, origin: str, base: str) -> None:
    """Checks that a teacher has the family and the weights' shapes of the base.

    Raises:
        ModelError: another family, or other weights.
    """
    if theirs.family != ours.family:
        raise ModelError(
            f"the teacher {origin} is a {theirs.family}, {base} a {ours.family}; teachers of one run share a family"
        )
    odd = sorted(n for n in theirs.shapes.keys() | ours.shapes.keys() if theirs.shapes.get(n) != ours.shapes.get(n))
    if odd:
        said = [f"{odd[0]} is {shapes.get(odd[0], 'not there')}" for shapes in (theirs.shapes, ours.shapes)]
        raise ModelError(
            f"the teacher {origin} has other weights than the model that is distilled ({len(odd)} tensors differ: "
            f"{said[0]} in the one, {said[1]} in the other); teachers of one run share a family and a size"
        )
