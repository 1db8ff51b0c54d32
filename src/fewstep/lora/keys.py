"""The names that LoRA tensors have in files, read and written: no other module knows a format.

| program | key of one side | alpha | where no alpha is found |
|---|---|---|---|
| diffusers | transformer.<module>.lora_A.weight | metadata, or transformer.<module>.alpha | alpha = rank |
| peft | base_model.model.<module>.lora_A.weight | adapter_config.json | peft's default of 8; no config: alpha = rank |
| ComfyUI | diffusion_model.<module>.lora_A.weight (or lora_down) | diffusion_model.<module>.alpha | alpha = rank |
| kohya | lora_unet_<module, "_" for ".">.lora_down.weight | lora_unet_<module>.alpha | alpha = rank; 0 counts as none |

ComfyUI (and programs that train on its files) renames and fuses modules: `layout.py` says which. kohya's names cannot
be taken apart by themselves - "_" also stands within names - so they are looked up among the base's own, and ComfyUI's.
Also read: `model.diffusion_model.`, as whole checkpoints have it, and LyCORIS' `lycoris_` where it wrote plain LoRA.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from fewstep.lora.comfyui_layout import ComfyUIModule, comfyui_modules
from fewstep.lora.factors import (
    Factors,
    stacked,
    swap_halves,
)
from fewstep.runtime.errors import AdapterError

Part = Literal["A", "B", "alpha"]
Program = Literal["diffusers", "comfyui"]  # those whose files are written
Shapes = Mapping[str, tuple[int, ...]]  # (out, in) by module name, as the transformer names its linear layers

SHOWN = 3  # unknown modules that are named in one message
_SIDES: dict[str, Part] = {"A": "A", "down": "A", "B": "B", "up": "B"}
_TAIL = r"(?:lora[._](?P<side>A|B|down|up)(?:\.(?!weight$)[^.]+)?\.weight|(?P<alpha>alpha))$"
_DOTTED = re.compile(
    rf"^(?:base_model\.model\.)?(?:transformer\.|(?:model\.)?diffusion_model\.)?(?P<module>.+?)\.{_TAIL}"
)
_KOHYA = re.compile(rf"^(?:lora_unet|lora_transformer|lycoris)_(?P<module>[^.]+)\.{_TAIL}")


@dataclass(frozen=True)
class LoraKey:
    """What one tensor of a file is. module: as it is written there without its prefix; kohya's without dots."""

    module: str
    part: Part
    kohya: bool = False


def parse_key(key: str) -> LoraKey | None:
    """None for what is no side and no alpha of a LoRA on the transformer."""
    kohya = _KOHYA.match(key)
    match = kohya or (None if key.startswith("lora_te") else _DOTTED.match(key))
    if match is None:
        return None
    part: Part = "alpha" if match["alpha"] else _SIDES[match["side"]]
    return LoraKey(match["module"], part, kohya is not None)


def lora_key(module: str, part: Part, program: Program = "diffusers") -> str:
    """The key that a program (and everything that reads its files) gives a side, or alpha."""
    prefix = "transformer" if program == "diffusers" else "diffusion_model"
    return f"{prefix}.{module}.alpha" if part == "alpha" else f"{prefix}.{module}.lora_{part}.weight"


def to_comfyui_names(factors: Mapping[str, Factors], shapes: Shapes) -> dict[str, Factors]:
    """The updates under ComfyUI's module names: what it fuses is put together in block form (`fitted` takes it apart).

    A part that the update leaves alone is a block of zeros of rank 1, for its rows are there all the same.

    Args:
        factors: by the base's own module names.
        shapes: the base's linear layers.
    """
    found: dict[str, Factors] = {}
    for name, one in comfyui_modules(shapes).items():
        given = [factors.get(part) for part in one.parts]
        some = next((each for each in given if each is not None), None)
        if some is None:
            continue
        blocks = [
            _nothing(some, shapes[part]) if each is None else each for each, part in zip(given, one.parts, strict=True)
        ]
        whole = blocks[0] if len(blocks) == 1 else stacked(blocks)
        found[name] = swap_halves(whole) if one.swapped else whole
    return dict(sorted(found.items()))


def _nothing(like: Factors, shape: tuple[int, ...]) -> Factors:
    """An update of rank 1 that changes nothing, in the scale of another."""
    rows, columns = shape
    return Factors(like.a.new_zeros(1, columns), like.a.new_zeros(rows, 1), like.scale)


def to_diffusers_names(factors: Mapping[str, Factors], shapes: Shapes, origin: str) -> dict[str, Factors]:
    """The updates under the base's own module names, fused ones taken apart.

    Args:
        factors: by names as `parsed` gives them.
        shapes: the base's linear layers.
        origin: the file, named in errors.

    Raises:
        AdapterError: modules that the base lacks (how many, and the first), of another size, or changed twice.
    """
    theirs = comfyui_modules(shapes)
    flat = _flat_names([*shapes, *theirs])
    places = {name: _place(name, shapes, theirs, flat) for name in factors}
    _refuse_unknown([name for name, place in places.items() if place is None], len(factors), origin)
    found: dict[str, Factors] = {}
    for name, place in places.items():
        assert place is not None
        for module, part in zip(place.parts, _split(factors[name], place, shapes), strict=True):
            if part.shape != tuple(shapes[module]):
                raise AdapterError(
                    f"{origin}: {name} is of shape {factors[name].shape}, the base's {module} is "
                    f"{tuple(shapes[module])}; it was trained on another base"
                )
            if module in found:
                raise AdapterError(f"{origin} changes {module} twice, under different names; export it again")
            found[module] = part
    return found


def _place(
    name: str, shapes: Shapes, theirs: Mapping[str, ComfyUIModule], flat: Mapping[str, str]
) -> ComfyUIModule | None:
    """The base's modules that `name` stands for: one, those that ComfyUI fuses under it, or none."""
    if "." not in name:
        name = flat.get(name, name)
    return ComfyUIModule((name,)) if name in shapes else theirs.get(name)


def _flat_names(modules: Iterable[str]) -> dict[str, str]:
    """kohya's spelling -> the module's. Spellings that two modules share are left out."""
    flat: dict[str, str] = {}
    twice: set[str] = set()
    for module in dict.fromkeys(modules):
        spelling = module.replace(".", "_")
        if spelling in flat:
            twice.add(spelling)
        flat[spelling] = module
    return {spelling: module for spelling, module in flat.items() if spelling not in twice}


def _split(factors: Factors, place: ComfyUIModule, shapes: Shapes) -> list[Factors]:
    """The rows of each module, in the order in which they are fused."""
    if place.swapped and factors.shape[0] % 2 == 0:
        factors = swap_halves(factors)
    if len(place.parts) == 1:
        return [factors]
    ends = [sum(shapes[m][0] for m in place.parts[: n + 1]) for n in range(len(place.parts))]
    ends[-1] = max(ends[-1], factors.shape[0])  # rows too many show as a part of another size
    return [factors.rows(first, last) for first, last in zip([0, *ends], ends, strict=False)]


def _refuse_unknown(unknown: list[str], total: int, origin: str) -> None:
    if unknown:
        named = ", ".join(unknown[:SHOWN]) + (", ..." if len(unknown) > SHOWN else "")
        raise AdapterError(
            f"{origin} changes {named}, which this base does not have as a linear layer ({len(unknown)} of its "
            f"{total} modules). It was trained on another base, or has another program's keys: export it for diffusers"
        )
