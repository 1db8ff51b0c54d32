"""Teachers, and the student's start, looked at before anything is loaded: files whole, keys and shapes the base's.

Adapters are read (they are small); of models only the headers of their weight files are.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from fewstep.backbones.families import (
    ModelShapes,
    adapter_path,
    model_shapes,
)
from fewstep.lora import file as lora_file
from fewstep.lora.factors import Factors
from fewstep.lora.keys import Shapes, to_diffusers_names
from fewstep.lora.truncation import TruncatedFactors, truncate
from fewstep.roles.plan import StudentPlan, TeachersSpec
from fewstep.roles.teacher_plan import teacher_plan
from fewstep.runtime.errors import AdapterError, ModelError


def validate_teachers(spec: TeachersSpec, steps: int, base: str) -> None:
    """Every specialised teacher that the plan ever gives weight, against the model `base`.

    Raises:
        AdapterError, ModelError: name the teacher's key in the recipe, the file, and what does not fit.
    """
    used = {name: spec.named[name] for name in teacher_plan(spec, steps).used[1:]}
    adapters = {name: one.adapter for name, one in used.items() if one.adapter is not None}
    read = {}
    for name, source in adapters.items():
        with _named(f"teachers.named.{name}", "adapter"):
            read[name] = lora_file.read_lora(adapter_path(source))
    if not used:
        return
    ours = model_shapes(base)
    for name, factors in read.items():
        with _named(f"teachers.named.{name}", "adapter"):
            to_diffusers_names(factors, ours.linear_shapes, adapters[name])
    for name, one in used.items():
        if one.model is not None:
            with _named(f"teachers.named.{name}", "model"):
                refuse_other_model(model_shapes(one.model), ours, one.model, base)


def validate_init_from(student: StudentPlan, base: str) -> TruncatedFactors | None:
    """The LoRA that the student starts from, where it has one, against the model `base`. What of it is cut off, where
    the student's adapter is too narrow for it.

    Raises:
        AdapterError: it cannot be read, or does not fit the base.
    """
    if student.init_from is None:
        return None
    with _named("student.init_from"):
        return truncated_lora(student.init_from, model_shapes(base).linear_shapes, _room(student))[1]


def initial_update(student: StudentPlan, shapes: Shapes) -> Mapping[str, Factors]:
    """The update that the student starts with, by the base's module names; nothing where none is given. Of a higher
    rank than the student's adapter, it is the nearest of that rank.

    Raises:
        AdapterError: as `vet_start`.
    """
    return {} if student.init_from is None else truncated_lora(student.init_from, shapes, _room(student))[0]


def truncated_lora(
    source: str, shapes: Shapes, rank: int | None
) -> tuple[Mapping[str, Factors], TruncatedFactors | None]:
    """A LoRA for a base of these shapes, cut down to `rank` where it is wider, and then what the cut left out.

    Raises:
        AdapterError: it cannot be read, or does not fit.
    """
    found = to_diffusers_names(lora_file.read_lora(adapter_path(source)), shapes, source)
    if rank is None or max(update.rank for update in found.values()) <= rank:
        return found, None
    cut = truncate(found, rank)
    return cut.updates, cut


def _room(student: StudentPlan) -> int | None:
    """The rank that the student can hold; a whole copy holds any."""
    return student.adapter.rank if student.mode == "adapter" else None


def refuse_other_model(theirs: ModelShapes, ours: ModelShapes, origin: str, base: str) -> None:
    """
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


@contextmanager
def _named(key: str, part: str = "") -> Iterator[None]:
    """Errors inside begin with the recipe's key, and end with how to do without it."""
    where = f"{key}.{part}" if part else key
    try:
        yield
    except AdapterError as error:
        raise AdapterError(f"{where}: {error}. {key}: null takes it out of a recipe") from error
    except ModelError as error:
        raise ModelError(f"{where}: {error}. {key}: null takes it out of a recipe") from error
