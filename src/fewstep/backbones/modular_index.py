"""The index of a modular pipeline's folder, modular_model_index.json, beside which there is no model_index.json.

Its entries are [library, class, loading specification]. The specification says where a part is loaded from. In an
index that fewstep writes that is the folder itself, whatever it is called: a path of this machine, or the base's hub
id, would open the base's weights under the student's name.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = "."


def part_entry(name: str, library: str, kind: str) -> list[Any]:
    """The entry of a part that is in a subfolder of its own name."""
    specification = {
        "pretrained_model_name_or_path": HERE,
        "revision": None,
        "subfolder": name,
        "type_hint": [library, kind],
        "variant": None,
    }
    return [library, kind, specification]


def plain_entries(index: Mapping[str, Any]) -> dict[str, Any]:
    """The same index with the entries of a model_index.json: [library, class]. An index that was saved before its parts
    were loaded has the two in the specification alone."""
    return {key: _plain(value) for key, value in index.items()}


def _plain(value: Any) -> Any:
    if not (isinstance(value, list) and len(value) == 3 and isinstance(value[2], dict)):
        return value
    hint = value[2].get("type_hint")
    return hint if value[1] is None and isinstance(hint, list) else value[:2]


def write_modular_index(folder: Path, pipeline: str, blocks: str, parts: Mapping[str, Any]) -> None:
    """Writes the index of these parts. pipeline, blocks: names of diffusers' classes."""
    kinds = {name: type(part) for name, part in parts.items()}
    entries = {name: part_entry(name, kind.__module__.partition(".")[0], kind.__name__) for name, kind in kinds.items()}
    content = {"_blocks_class_name": blocks, "_class_name": pipeline, **entries}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "modular_model_index.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
