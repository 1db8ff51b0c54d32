"""Which pocket world a LoRA was trained in. The worlds' teachers have the same shapes, so any of their LoRAs fits any.

A file that `fewstep pocket specialise` writes states its world. An embedded one is known by its factors, whatever the
file is called and however its keys are named. Of other files nothing is known, and they are taken.
"""

from collections.abc import Mapping

import torch
from safetensors import safe_open
from torch import Tensor

from fewstep.backbones.embedded import HARDER, POCKET
from fewstep.backbones.families import adapter_path
from fewstep.lora.factors import Factors
from fewstep.lora.file import lora_file, read_lora
from fewstep.runtime.errors import AdapterError

STATED = "pocket_world"  # in the header of a LoRA file
WORLD_OF_TEACHER = {POCKET: "pocket", HARDER: "harder"}


def refuse_lora_of_other_world(source: str, world: str) -> None:
    """
    Args:
        source: a LoRA file, a folder with one, or an embedded one as pocket:NAME.
        world: of the model that it is to be put over.

    Raises:
        AdapterError: it was trained in another world, or cannot be read. ModelError: no embedded one of that name.
    """
    told = world_of_lora(source)
    if told is not None and told != world:
        raise AdapterError(f"{source} was trained over the {told} teacher; give a LoRA file of the {world} world")


def world_of_lora(source: str) -> str | None:
    """The world that a LoRA was trained in, as far as that can be known."""
    path = adapter_path(source)
    if source.startswith(f"{POCKET}:"):
        return POCKET
    given = read_lora(path)
    with safe_open(lora_file(path), framework="pt") as opened:
        stated = (opened.metadata() or {}).get(STATED)
    return stated or (POCKET if _is_embedded(given) else None)


def _is_embedded(given: Mapping[str, Factors]) -> bool:
    folder, parts = adapter_path(f"{POCKET}:text").parent, _rank_one_parts(given)
    held = (_rank_one_parts(read_lora(file)) for file in sorted(folder.glob("*.safetensors")))
    return any(parts.shape == own.shape and torch.allclose(parts, own, rtol=1e-6, atol=0) for own in held)


def _rank_one_parts(factors: Mapping[str, Factors]) -> Tensor:
    """(2, R): how large the rows of all A and the columns of all B are, sorted. Other names of modules change nothing,
    and neither does fusing some, which stacks their A and sets their B beside each other."""
    rows = torch.cat([each.a.double().abs().sum(dim=1) for each in factors.values()])
    columns = torch.cat([each.b.double().abs().sum(dim=0) for each in factors.values()])
    return torch.stack([rows.sort().values, columns.sort().values])
