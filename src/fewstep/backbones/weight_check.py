"""Whether the weight files of a part are those of its model, told from their headers alone, in less than a second.

diffusers and transformers load what fits and go on. A tensor that is missing becomes random numbers, one that the model
does not read is left out, integers are taken for weights. So their own classes are asked beforehand what they would
read, on the meta device, where a tensor has a shape and no data. Renamed keys, tied weights and keys that a class
ignores are then theirs to know.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep.backbones.folder import TensorHeader, header_of, read_json, weight_files
from fewstep.backbones.stock import quiet_libraries
from fewstep.backbones.weight_faults import DTYPES, WeightFaults, refuse_other_dtypes, refuse_quantised
from fewstep.runtime.errors import ModelError

# Keys of configs of which each unit has a tensor at least.
COUNTS = (
    *("num_layers", "num_single_layers", "num_hidden_layers", "depth", "num_res_blocks", "layers_per_block"),
    *("n_layers", "n_refiner_layers"),
)


def refuse_unfit_weights(part: Path, stem: str, model_class: Any) -> None:
    """Checks names, shapes and dtypes of all tensors of a part. Nothing but headers is read.

    Args:
        part: the folder with config.json and weight files.
        stem: of the weight files' names.
        model_class: the stock class that will load them.

    Raises:
        ModelError: the class would not load exactly these weights. The message names tensors.
    """
    files = weight_files(part, stem)
    held = {name: entry for file in files for name, entry in header_of(file).items()}
    refuse_quantised(part, held)
    _refuse_endless(part, read_json(part / "config.json"), len(held))
    try:
        faults, integers = _compared(part, model_class, held, len(files) > 1)
    except Exception as error:  # whatever a class raises for a config that it was not written for
        raise _unusable(part, model_class, error) from error
    refuse_other_dtypes(part, held, integers)
    if faults.any:
        raise ModelError(
            f"the weights in {part} are not those of its model, {model_class.__name__} with its config.json: "
            f"{faults.words()}. Copy or download weights and config.json together"
        )


def _refuse_endless(part: Path, config: Mapping[str, Any], tensors: int) -> None:
    """Checks that no number of layers is beyond the tensors in the files: making a million layers takes hours."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            _refuse_endless(part, value, tensors)
        elif key in COUNTS and isinstance(value, int) and value > tensors:
            raise ModelError(
                f"{part / 'config.json'} says {key} {value:,}, and the files have {tensors:,} tensors altogether. Copy "
                "or download weights and config.json together"
            )


def _unusable(part: Path, model_class: Any, error: Exception) -> ModelError:
    said = str(error).strip().partition("\n")[0] or type(error).__name__
    return ModelError(
        f"{part / 'config.json'} makes no {model_class.__name__}: {said}. Take the config.json that belongs to these "
        "weights"
    )


def _compared(
    part: Path, model_class: Any, held: Mapping[str, TensorHeader], sharded: bool
) -> tuple[WeightFaults, set[str]]:
    """The faults; and the names of the model's tensors that are integers, such as counters."""
    empty = {name: _on_meta(entry) for name, entry in held.items()}
    if getattr(model_class, "config_class", None) is None:
        model, faults = _of_diffusers(model_class, read_json(part / "config.json"), empty, sharded)
    else:
        model, faults = _of_transformers(model_class, part, empty)
    return faults, {name for name, tensor in model.state_dict().items() if not tensor.is_floating_point()}


def _on_meta(entry: TensorHeader) -> Tensor:
    return torch.empty(entry["shape"], dtype=DTYPES.get(entry["dtype"], torch.float32), device="meta")


def _of_diffusers(
    model_class: Any, config: Mapping[str, Any], empty: Mapping[str, Tensor], sharded: bool
) -> tuple[Any, WeightFaults]:
    with torch.device("meta"), quiet_libraries():
        model = model_class.from_config(dict(config))
    own, named = model.state_dict(), dict(empty)
    if not sharded:
        model._fix_state_dict_keys_on_load(named)  # names of older attention blocks, which diffusers reads only here
    patterns = model_class._keys_to_ignore_on_load_unexpected or ()
    ignored = {name for name in named if any(re.search(pattern, name) for pattern in patterns)}
    shapes = {n: (tuple(named[n].shape), tuple(own[n].shape)) for n in sorted(own.keys() & named.keys())}
    return model, WeightFaults(
        tuple(sorted(own.keys() - named.keys())),
        tuple(sorted(named.keys() - own.keys() - ignored)),
        tuple((name, ours, theirs) for name, (ours, theirs) in shapes.items() if ours != theirs),
    )


def _of_transformers(model_class: Any, part: Path, empty: dict[str, Tensor]) -> tuple[Any, WeightFaults]:
    with quiet_libraries():
        config = model_class.config_class.from_pretrained(part, local_files_only=True)
        model, told = model_class.from_pretrained(
            None,
            config=config,
            state_dict=empty,
            device_map={"": "meta"},
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told like the others, instead of an error at the first
        )
    odd = sorted((name, tuple(ours), tuple(theirs)) for name, ours, theirs in told["mismatched_keys"])
    missing = set(told["missing_keys"]) - {name for name, _, _ in odd}
    return model, WeightFaults(tuple(sorted(missing)), tuple(sorted(told["unexpected_keys"])), tuple(odd))
