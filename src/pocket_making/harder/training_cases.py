"""Cases of the harder world to distil with: exact prompts and edits of train scenes, in files as any user's are."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from PIL import Image

from fewstep.data.cases import Case, write_jsonl
from fewstep.runtime import durable
from fewstep.runtime.task import TASKS, Task
from pocket_making.harder.attributes import CATEGORIES
from pocket_making.harder.cases import EDIT_KINDS, HarderCase, instruction_case, prompt_case

SEED = 0
SOURCE = "harder world"


def training_case(task: Task, index: int) -> HarderCase:
    """Categories, or kinds of edit, take turns; so do the lengths of each category's prompts."""
    if task == "t2i":
        return prompt_case(SEED, index // len(CATEGORIES), list(CATEGORIES)[index % len(CATEGORIES)], "train")
    return instruction_case(SEED, index // len(EDIT_KINDS), EDIT_KINDS[index % len(EDIT_KINDS)], "train")


def write_training_cases(folder: Path, counts: dict[Task, int]) -> Iterator[Path]:
    """`t2i.jsonl` and `edit.jsonl` with so many cases, and the pictures that edits begin with in `references/`. Yields
    each file once it is whole; one that is there with as many cases is kept."""
    durable.make_folder(folder / "references")
    for task in TASKS:
        path = folder / f"{task}.jsonl"
        if counts.get(task, 0) > 0 and _lines(path) != counts[task]:
            write_jsonl(path, [_written(training_case(task, index), folder) for index in range(counts[task])])
        if path.exists():
            yield path


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def _written(drawn: HarderCase, folder: Path) -> Case:
    """The case, with its references written to disk."""
    references = []
    for number, picture in enumerate(drawn.references):
        path = folder / "references" / f"{drawn.id}-{number}.png"
        if not path.exists():
            durable.replace_atomically(path, partial(_save, picture))
        references.append(path)
    task: Task = "edit" if references else "t2i"
    height, width = drawn.size
    return Case(
        drawn.id, task, drawn.prompt, drawn.category, tuple(references), height=height, width=width, source=SOURCE
    )


def _save(picture: Image.Image, path: Path) -> None:
    picture.save(path, format="PNG")
