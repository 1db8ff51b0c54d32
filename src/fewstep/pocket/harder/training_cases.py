"""Cases of the harder world to distil with: exact prompts and edits of train scenes, in files as any user's are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from PIL import Image

from fewstep.data.cases import Case, write_jsonl
from fewstep.pocket.harder.attributes import CATEGORIES
from fewstep.pocket.harder.cases import EDIT_KINDS, HarderCase, instruction_case, prompt_case
from fewstep.runtime import durable
from fewstep.runtime.task import TASKS, Task

SEED = 0
SOURCE = "harder world"


def training_case(task: Task, index: int) -> HarderCase:
    """Categories, or kinds of edit, take turns; so do the lengths of each category's prompts."""
    if task == "t2i":
        return prompt_case(SEED, index // len(CATEGORIES), list(CATEGORIES)[index % len(CATEGORIES)], "train")
    return instruction_case(SEED, index // len(EDIT_KINDS), EDIT_KINDS[index % len(EDIT_KINDS)], "train")


def write_training_cases(folder: Path, counts: Mapping[Task, int]) -> list[Path]:
    """`t2i.jsonl` and `edit.jsonl` with so many cases, and the pictures that edits begin with in `references/`. What is
    there is kept if it is of these counts and of this version of the world (`cases.json`, written last)."""
    told = json.dumps({"counts": dict(counts), "world": world_mark()})
    made, described = [folder / f"{task}.jsonl" for task in TASKS if counts.get(task, 0) > 0], folder / "cases.json"
    if described.exists() and described.read_text() == told:
        return made
    described.unlink(missing_ok=True)
    durable.make_folder(folder / "references")
    for path in made:
        task: Task = "t2i" if path.stem == "t2i" else "edit"
        write_jsonl(path, [_written(training_case(task, index), folder) for index in range(counts[task])])
    durable.write_atomically(described, told)
    return made


def world_mark() -> str:
    """A short hash of the first cases, with every category and kind of edit among them."""
    mark = hashlib.blake2b(digest_size=8)
    for case in [*(training_case("t2i", k) for k in range(12)), *(training_case("edit", k) for k in range(16))]:
        mark.update(case.prompt.encode())
        mark.update(b"".join(picture.tobytes() for picture in (*case.references, case.target)))
    return mark.hexdigest()


def _written(drawn: HarderCase, folder: Path) -> Case:
    """The case, with its references written to disk."""
    references = []
    for number, picture in enumerate(drawn.references):
        path = folder / "references" / f"{drawn.id}-{number}.png"
        durable.replace_atomically(path, partial(_save, picture))
        references.append(path)
    task: Task = "edit" if references else "t2i"
    height, width = drawn.size
    return Case(
        drawn.id, task, drawn.prompt, drawn.category, tuple(references), height=height, width=width, source=SOURCE
    )


def _save(picture: Image.Image, path: Path) -> None:
    picture.save(path, format="PNG")
