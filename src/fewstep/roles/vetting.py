"""Teachers looked at before anything is loaded: files whole, keys and shapes those of the base.

Adapters are read (they are small); of models only the headers of their weight files are.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from fewstep.backbones.families import Outline, adapter_path, outline
from fewstep.errors import AdapterError, ModelError
from fewstep.lora import file as lora_file
from fewstep.lora.keys import fitted
from fewstep.roles.plan import TeachersSpec
from fewstep.roles.teacher_plan import teacher_plan


def vet(spec: TeachersSpec, steps: int, base: str) -> None:
    """Every specialised teacher that the plan ever gives weight, against the model `base`.

    Raises:
        AdapterError, ModelError: name the teacher's key in the recipe, the file, and what does not fit.
    """
    used = {name: spec.named[name] for name in teacher_plan(spec, steps).used[1:]}
    adapters = {name: one.adapter for name, one in used.items() if one.adapter is not None}
    read = {}
    for name, source in adapters.items():
        with _named(f"teachers.named.{name}.adapter"):
            read[name] = lora_file.read(adapter_path(source))
    if not used:
        return
    ours = outline(base)
    for name, factors in read.items():
        with _named(f"teachers.named.{name}.adapter"):
            fitted(factors, ours.linear_shapes, adapters[name])
    for name, one in used.items():
        if one.model is not None:
            with _named(f"teachers.named.{name}.model"):
                refuse_other_model(outline(one.model), ours, one.model, base)


def refuse_other_model(theirs: Outline, ours: Outline, origin: str, base: str) -> None:
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
def _named(key: str) -> Iterator[None]:
    """Errors inside begin with the recipe's key."""
    try:
        yield
    except AdapterError as error:
        raise AdapterError(f"{key}: {error}") from error
    except ModelError as error:
        raise ModelError(f"{key}: {error}") from error
