"""Which stock class a part of a model folder is, as its pipeline, model_index.json and the part's own config say.

diffusers and transformers go on where the three disagree: the class makes of a foreign config what it can.
"""

import sys
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from fewstep.backbones.folder import index_file, read_json
from fewstep.runtime.errors import ModelError

QUANTISED = "quantization_config"
PREPROCESSORS = ("tokenizer", "processor", "text_processor")  # parts without weights


def refuse_absent_components(folder: Path, index: Mapping[str, Any], pipeline_class: Any) -> None:
    """Checks that model_index.json names a class for all that the pipeline cannot be made without.

    Raises:
        ModelError: a component is null, not named, or of a class that nobody has.
    """
    parameters = list(signature(pipeline_class.__init__).parameters.values())[1:]  # without self
    for part in (p.name for p in parameters if p.default is p.empty):
        library, name = _named_class(folder, index, part)
        if _class(library, name) is None:
            raise ModelError(
                f"{index_file(folder)} names {library}'s {name} as its {part}, which {library} does not have "
                "here. Take the index that belongs to this model"
            )


def component_class(folder: Path, index: Mapping[str, Any], part: str, pipeline_class: Any) -> Any:
    """The stock class of a part with weights.

    Raises:
        ModelError: model_index.json or the part's config.json names another class than the pipeline has there, or the
            config says that the weights are quantised.
    """
    declared = signature(pipeline_class.__init__).parameters[part].annotation
    if part not in index and isinstance(declared, type):  # a transformer that is loaded alone needs no entry
        _refuse_other_config(folder / part, declared)
        return declared
    library, name = _named_class(folder, index, part)
    named = _class(library, name)
    if named is None or (isinstance(declared, type) and not issubclass(named, declared)):
        expected = declared.__name__ if isinstance(declared, type) else "another class"
        raise ModelError(
            f"{index_file(folder)} names {library}'s {name} as its {part}; {pipeline_class.__name__} has "
            f"{expected} there. Take the index that belongs to this model"
        )
    _refuse_other_config(folder / part, named)
    return named


def preprocessors(pipeline_class: Any) -> tuple[str, ...]:
    """The parts without weights that a stock pipeline needs."""
    asked = signature(pipeline_class.__init__).parameters
    return tuple(part for part in PREPROCESSORS if part in asked)


def refuse_incomplete_preprocessor(part: Path) -> None:
    """Checks that the files of a tokenizer or processor are there, and can be read.

    Raises:
        ModelError: one is missing, or is no JSON. The message names it.
    """
    for file in {part / "tokenizer_config.json", *part.glob("*.json")}:
        read_json(file)
    if (part / "tokenizer.json").is_file():
        return
    pair = [part / "vocab.json", part / "merges.txt"]  # the older form of the same
    lacking = [file for file in pair if not file.is_file()]
    if lacking:
        named = part / "tokenizer.json" if len(lacking) == len(pair) else lacking[0]
        raise ModelError(f"{named} is missing: the model folder is incomplete. Copy or download it again")


def refuse_unusable_scheduler(folder: Path, config: Mapping[str, Any], pipeline_class: Any) -> None:
    """Checks that the pipeline's scheduler can be made of the config that its folder has.

    Raises:
        ModelError: the class refuses it.
    """
    file = folder / "scheduler" / "scheduler_config.json"
    scheduler = signature(pipeline_class.__init__).parameters["scheduler"].annotation
    try:
        if isinstance(scheduler, type):
            getattr(scheduler, "from_config")(dict(config))  # noqa: B009 - the annotation has no type of its own
    except Exception as error:  # whatever a class raises for a config that it was not written for
        raise ModelError(
            f"{file} makes no {scheduler.__name__}: {error}. Take the scheduler_config.json that belongs to this model"
        ) from error


def _refuse_other_config(part: Path, model_class: Any) -> None:
    """Checks that a part's config.json is of its class, and of weights as the class itself has them."""
    file = part / "config.json"
    config = read_json(file)
    if config.get(QUANTISED):
        raise ModelError(
            f"{part} holds quantised weights: {file.name} has {QUANTISED} ({_method(config[QUANTISED])}). fewstep "
            "reads plain weights only. Take the release of this model in bf16, fp16 or fp32"
        )
    key, own = _own_name(model_class)
    if config.get(key) not in (own, None):
        raise ModelError(
            f"{file} is of another class: {key} is {config[key]!r}, and {model_class.__name__} has {own!r}. Take the "
            "config.json that belongs to these weights"
        )


def _own_name(model_class: Any) -> tuple[str, str]:
    """The key by which a config names its class, and what it says for this one."""
    config_class = getattr(model_class, "config_class", None)  # of transformers; diffusers has none
    return ("_class_name", model_class.__name__) if config_class is None else ("model_type", config_class.model_type)


def _method(quantised: Any) -> str:
    method = quantised.get("quant_method") if isinstance(quantised, Mapping) else None
    return str(method or "no method named")


def _class(library: str, name: str) -> Any:
    """A class of diffusers, transformers, or a package whose family is in use; None if it has none of that name.
    Nothing is imported because a folder names it."""
    found = getattr(sys.modules.get(library), name, None)
    return found if isinstance(found, type) else None


def _named_class(folder: Path, index: Mapping[str, Any], part: str) -> tuple[str, str]:
    """Library and class that the index names for a part."""
    entry = index.get(part)
    if isinstance(entry, list) and len(entry) == 2 and all(isinstance(word, str) for word in entry):
        return entry[0], entry[1]
    said = "names none" if part not in index else f"says {entry!r}"
    raise ModelError(
        f"{index_file(folder)} must name the class of {part}, which the pipeline needs, and {said}. Copy or "
        "download the whole model again"
    )
