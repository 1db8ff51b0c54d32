"""A case of a run's page, as the Playground begins with it: its prompt and pictures, from the same noise, with its
teacher and students of the run."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fewstep.roles.teacher_plan import BASE
from fewstep.run.studio.answers import StudioRefused
from fewstep.run.studio.draw_models import kept_iterations
from fewstep.run.studio.photos import keep_photo
from fewstep.run.studio.places import file_inside
from fewstep.run.studio.run_pictures import picture_groups
from fewstep.run.studio.run_view import RunView
from fewstep.sample.origin import origin_of

NAMED = re.compile(r"teacher(?: (?P<name>.+?))?, \d+ steps")  # what a run's picture says of who drew it


def taken_case(
    view: RunView, group: str, number: int, moment: int, photos: Path, known: Sequence[str], most: int
) -> dict[str, Any]:
    """What the form of the Playground holds: prompt, photos, seed, size, columns.

    Args:
        group: key of the pictures' group on the run's page. number: of the case in it. moment: where the slider is.
        photos: where the case's pictures are kept, as photos that are handed in.
        known: keys of the columns that there are. most: of them in one drawing.

    Raises:
        StudioRefused: the run has no such case (any more), or a picture of it is gone or too large.
    """
    found = next((each for each in picture_groups(view.folder)[0] if each["key"] == group), None)
    if found is None or number >= len(found["cases"]):
        raise StudioRefused("this run has no such case (any more); load its page again", 404)
    case = found["cases"][number]
    kept = [keep_photo(photos, file_inside(view.folder, path).read_bytes()) for path in case["source"]]
    wanted = [key for key in _teachers(view, case) if key in known]
    shown = _some(kept_iterations(view.folder), moment, most - len(wanted))
    return {
        "prompt": case["prompt"],
        "photos": [{"name": name, "size": size} for name, size in kept],
        "seed": case["seed"] or 0,
        "size": case["size"],
        "columns": wanted + [f"kept:{view.name}:{iteration}" for iteration in shown],
    }


def _teachers(view: RunView, case: Mapping[str, Any]) -> list[str]:
    """The teacher whose picture stands on the page, at all its steps and at the student's."""
    said = [origin_of(view.folder / each["path"]) or "" for each in case["fixed"][:1]]
    named = next((match["name"] for text in said if (match := NAMED.match(text))), None)
    tail = "" if named in (None, BASE) else f":{named}"
    return [f"teacher:{view.name}{tail}", f"few:{view.name}{tail}"]


def _some(kept: Sequence[int], moment: int, most: int) -> list[int]:
    """At most so many kept students: the one where the slider is, the last, and evenly spaced ones."""
    if len(kept) <= most:
        return list(kept)
    here = min(kept, key=lambda iteration: abs(iteration - moment))
    spread = [kept[round(i * (len(kept) - 1) / (most - 2))] for i in range(most - 1)]
    return sorted({here, *spread})
