"""The suites of this package: the contents of the YAML files beside this module, as cases with their pictures.

Categories take turns. Prompts and expected words are frozen in the files; sources are drawn.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from fewstep.bench.drafts import DraftCase
from fewstep.bench.mini.canvas import Drawing, mask_of
from fewstep.bench.mini.corruptions import CORRUPTIONS
from fewstep.bench.mini.people import portrait
from fewstep.bench.mini.scenes import PLACES
from fewstep.bench.mini.signs import SURFACES

_Entry = str | Mapping[str, Any]
DRAWINGS = {**PLACES, **SURFACES, "portrait": portrait}


def prompt_drafts(name: str) -> Iterator[DraftCase]:
    """Text to image: t2i, flat_field, tiny_text or diversity."""
    prefix = f"mini-{name}".replace("_", "-")
    for case, category, entry in _in_turn(name, prefix):
        told = {"prompt": entry} if isinstance(entry, str) else entry
        expect = {"text": list(told["text"])} if "text" in told else {}
        yield DraftCase(case, told["prompt"], category, expect=expect, source="fewstep")


def edit_drafts() -> Iterator[DraftCase]:
    """The six kinds of edit. A repair's exact answer is the picture before the corruption."""
    for case, kind, entry in _in_turn("edit", "mini-edit"):
        assert isinstance(entry, Mapping), case
        drawn = _drawn(entry["draw"])
        corruption = entry.get("harm")
        source = CORRUPTIONS[corruption](drawn.picture, case) if corruption else drawn.picture
        yield DraftCase(
            id=case,
            prompt=entry["prompt"],
            category=kind,
            references=(source,),
            target=drawn.picture if corruption else None,
            region=_region(entry, drawn),
            expect={"text": list(entry["text"])} if "text" in entry else {},
            source="fewstep",
        )


def _in_turn(name: str, prefix: str) -> Iterator[tuple[str, str, _Entry]]:
    """(id, category, entry): the first of each category, then the second of each, and so on."""
    categories = _read(name)
    for number in range(max(map(len, categories.values()))):
        for category, entries in categories.items():
            if number < len(entries):
                yield f"{prefix}-{category}-{number + 1:02d}", category, entries[number]


@lru_cache(maxsize=8)
def _read(name: str) -> Mapping[str, Sequence[_Entry]]:
    path = Path(__file__).parent / f"{name}.yaml"
    content: Mapping[str, Sequence[_Entry]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def _drawn(told: Mapping[str, Mapping[str, Any]]) -> Drawing:
    ((name, options),) = told.items()
    return DRAWINGS[name](**options)  # type: ignore[operator]


def _region(entry: Mapping[str, Any], drawn: Drawing) -> Image.Image | None:
    boxes = [drawn.parts[part] for part in entry.get("change", ())]
    boxes += [(box[0], box[1], box[2], box[3]) for box in entry.get("box", ())]
    return mask_of(boxes) if boxes else None
