"""The names of LoRA tensors in files, for reading and writing. No other module knows these formats.

| program | key of one side | alpha as a tensor | where no alpha is found |
|---|---|---|---|
| diffusers | transformer.<module>.lora_A.weight | transformer.<module>.alpha | alpha = rank |
| peft | base_model.model.<module>.lora_A.weight | none | peft's default of 8; no config: alpha = rank |
| ComfyUI | diffusion_model.<module>.lora_A.weight (or lora_down) | diffusion_model.<module>.alpha | alpha = rank |
| kohya | lora_unet_<module, "_" for ".">.lora_down.weight | lora_unet_<module>.alpha | alpha = rank; 0 counts as none |
| DiffSynth-Studio; "plain" | <module>.lora_A.weight | <module>.alpha | alpha = rank |

Where else a file states its alpha is in `lora/stated.py`.

ComfyUI, and programs that train on its files, rename and fuse modules (`lora/comfyui_layout.py`). A name of kohya's
cannot be split by itself, because "_" also occurs within names. So it is looked up among the names of the base, and of
ComfyUI. Also read are `model.diffusion_model.`, as in whole checkpoints, and `lycoris_`, if LyCORIS wrote plain LoRA.
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
Program = Literal["diffusers", "comfyui", "plain"]  # those whose files are written; plain: DiffSynth-Studio, ComfyUI
Shapes = Mapping[str, tuple[int, ...]]  # (out, in) by module name, as the transformer names its linear layers

_PREFIXES: Mapping[Program, str] = {"diffusers": "transformer.", "comfyui": "diffusion_model.", "plain": ""}
SHOWN = 3  # unknown modules that are named in one message
_SIDES: dict[str, Part] = {"A": "A", "down": "A", "B": "B", "up": "B"}
_TAIL = r"(?:lora[._](?P<side>A|B|down|up)(?:\.(?!weight$)[^.]+)?\.weight|(?P<alpha>alpha))$"
_DOTTED = re.compile(
    rf"^(?:base_model\.model\.)?(?:transformer\.|(?:model\.)?diffusion_model\.)?(?P<module>.+?)\.{_TAIL}"
)
_KOHYA = re.compile(rf"^(?:lora_unet|lora_transformer|lycoris)_(?P<module>[^.]+)\.{_TAIL}")


@dataclass(frozen=True)
class LoraKey:
    """What one tensor of a file is. module: its name in the file without the prefix; kohya's has no dots."""

    module: str
    part: Part
    kohya: bool = False


def parse_key(key: str) -> LoraKey | None:
    """What a key stands for; None if it is neither a side nor the alpha of a LoRA on the transformer."""
    kohya = _KOHYA.match(key)
    match = kohya or (None if key.startswith("lora_te") else _DOTTED.match(key))
    if match is None:
        return None
    part: Part = "alpha" if match["alpha"] else _SIDES[match["side"]]
    return LoraKey(match["module"], part, kohya is not None)


def lora_key(module: str, part: Part, program: Program = "diffusers") -> str:
    """The key of a side, or of alpha, in files of a program."""
    name = f"{_PREFIXES[program]}{module}"
    return f"{name}.alpha" if part == "alpha" else f"{name}.lora_{part}.weight"


def to_comfyui_names(factors: Mapping[str, Factors], shapes: Shapes) -> dict[str, Factors]:
    """The updates under ComfyUI's module names. Modules that ComfyUI fuses are joined in block form; the reverse is
    `to_diffusers_names`.

    A part without an update becomes a block of zeros of rank 1, because the fused module has its rows as well.

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
    """An update of rank 1 that changes nothing, with the scale of `like`."""
    rows, columns = shape
    return Factors(like.a.new_zeros(1, columns), like.a.new_zeros(rows, 1), like.scale)


def to_diffusers_names(factors: Mapping[str, Factors], shapes: Shapes, origin: str) -> dict[str, Factors]:
    """The updates under the base's own module names. Those of fused modules are split.

    Args:
        factors: by module, as `parse_key` names them.
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
    """The modules of the base that `name` stands for: one, or those that ComfyUI fuses. None if there are none."""
    if "." not in name:
        name = flat.get(name, name)
    return ComfyUIModule((name,)) if name in shapes else theirs.get(name)


def _flat_names(modules: Iterable[str]) -> dict[str, str]:
    """kohya's spelling -> the module's name. Spellings that two modules share are left out."""
    flat: dict[str, str] = {}
    twice: set[str] = set()
    for module in dict.fromkeys(modules):
        spelling = module.replace(".", "_")
        if spelling in flat:
            twice.add(spelling)
        flat[spelling] = module
    return {spelling: module for spelling, module in flat.items() if spelling not in twice}


def _split(factors: Factors, place: ComfyUIModule, shapes: Shapes) -> list[Factors]:
    """The update of each module that `place` consists of, in the order in which they are fused."""
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
