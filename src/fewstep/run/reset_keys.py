"""What `--set` of a whole section takes back to its default.

A mapping at a section replaces the section, as lists are replaced: `--set student.adapter={rank: 8}` forgets what the
recipe says of `student.adapter.targets`. Recipes that extend another one are merged key by key instead, so whoever
knows that would not expect it.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from fewstep.run.recipe import flat_keys, load_recipe
from fewstep.runtime import strict_yaml
from fewstep.runtime.errors import RecipeError


def reset_keys(name: str | Path, overrides: Sequence[str]) -> list[str]:
    """`key: value in the recipe -> its default`, for each key that these overrides reset without naming it.

    Args:
        name: a shipped recipe, or a YAML file.
        overrides: `key=value` texts, as `--set` takes them; `load_recipe` takes them too.
    """
    merged = _key_by_key(overrides)
    if merged == [*overrides]:
        return []
    try:
        chosen, kept = (flat_keys(load_recipe(name, some).resolved()) for some in (overrides, merged))
    except RecipeError:  # merged, they may exclude each other; what was chosen has been read before
        return []
    return [f"{key}: {kept[key]} -> {value}" for key, value in chosen.items() if key in kept and kept[key] != value]


def _key_by_key(overrides: Sequence[str]) -> list[str]:
    """The same overrides, with mappings taken apart into their keys."""
    apart: list[str] = []
    for override in overrides:
        key, _, text = override.partition("=")
        value = strict_yaml.load_yaml(text, f"--set {key}")
        if isinstance(value, dict):
            leaves = flat_keys(value, key.strip()) if value else {}
            apart += [f"{part}={json.dumps(leaf)}" for part, leaf in leaves.items()]
        else:
            apart.append(override)
    return apart
