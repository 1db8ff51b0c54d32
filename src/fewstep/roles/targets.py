"""Which linear layers of a transformer an adapter changes: `adapter.targets` of a recipe.

The field differs here. Most LoRAs of these families change attention and MLP of the blocks (peft's examples, and the
default here). Viggle and Turbo8 also train modulation and time embedding, which is `all`.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase

from rapidfuzz import fuzz, process

from fewstep.backbones.backbone import Backbone
from fewstep.roles.plan import Targets
from fewstep.runtime.errors import RecipeError

NEAREST = 3  # layers that are offered for a pattern without any


def target_modules(targets: Targets, family: type[Backbone] | Backbone, linears: Collection[str]) -> list[str]:
    """The names of the layers.

    Args:
        targets: the recipe's choice.
        family: says which layers are attention, and which are attention and MLP.
        linears: the names of all linear layers of the transformer.

    Raises:
        RecipeError: patterns that no layer has, with the nearest there are; or a family that does not say which of its
            layers are attention.
    """
    held = {name for name in linears if name in family.encoded_layers}
    if held and isinstance(targets, tuple):
        _refuse_encoded(targets, family.family, held)
    linears = [name for name in linears if name not in held]
    if targets == "all":
        return sorted(linears)
    if isinstance(targets, tuple):
        return _matching(targets, family.family, linears)
    ends = family.lora_targets if targets == "attention+mlp" else family.attention_targets
    if not ends:
        raise RecipeError(
            f"adapter.targets: {targets}, but {family.family} does not say which of its layers are that; give patterns "
            "of names"
        )
    return sorted(name for name in linears if any(name == end or name.endswith(f".{end}") for end in ends))


def _refuse_encoded(patterns: Sequence[str], family: str, held: Iterable[str]) -> None:
    for pattern, name in ((pattern, name) for pattern in patterns for name in held):
        if _matches(name, pattern):
            raise RecipeError(
                f"adapter.targets: '{pattern}' is {name} of {family}, whose answer to a text is what is encoded and "
                "stored. It cannot learn; leave it out"
            )


def _matching(patterns: Sequence[str], family: str, linears: Collection[str]) -> list[str]:
    for pattern in patterns:
        if not any(_matches(name, pattern) for name in linears):
            near = ", ".join(_nearest(pattern, linears))
            raise RecipeError(f"adapter.targets: no linear layer of {family} is called '{pattern}'; nearest are {near}")
    return sorted(name for name in linears if any(_matches(name, pattern) for pattern in patterns))


def _matches(name: str, pattern: str) -> bool:
    """A pattern is a whole name or the end of one after a dot; * stands for anything."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")


def _nearest(pattern: str, linears: Iterable[str]) -> list[str]:
    kinds = sorted({re.sub(r"\.\d+\.", ".*.", name, count=1) for name in linears})
    found = process.extract(pattern, kinds, scorer=fuzz.partial_ratio, limit=NEAREST)
    return [kind for kind, _, _ in found]
