"""`pocket:TASK:N`: the first N training cases of the pocket world, drawn into ordinary files."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from PIL import Image

from fewstep.data.cases import Case, write_jsonl
from fewstep.pocket.cases import (
    PocketCase,
    edit_case,
    t2i_case,
)
from fewstep.runtime import durable
from fewstep.runtime.errors import CaseError
from fewstep.runtime.task import TASKS, Task

SEED = 0
LIMIT = 1_000_000


def task_of(source: str) -> Task:
    """The task that a pocket source names.

    Raises:
        CaseError: the text has another form.
    """
    parts = source.split(":")
    if len(parts) != 3 or parts[1] not in TASKS or not parts[2].isdecimal():
        raise CaseError(f"{source}: pocket sources read pocket:t2i:N or pocket:edit:N, such as pocket:t2i:3000")
    return "t2i" if parts[1] == "t2i" else "edit"


def pocket_file(source: str, task: Task | None, cache: Path) -> Path:
    """The canonical file of a pocket source, drawn into `cache` if it does not exist yet. References are PNG files; the
    cases file is written last and completes the folder. The folder's name changes with the world, so cases of an older
    world are not reused.

    Raises:
        CaseError: the text makes no sense, or names another task than the recipe lists it under.
    """
    task = task or task_of(source)
    count = _count(source, task)
    draw = partial(t2i_case if task == "t2i" else edit_case, SEED, split="train")
    folder = cache / f"pocket-{task}-{count}-{_mark(draw)}"
    path = folder / "cases.jsonl"
    if not path.exists():
        durable.make_folder(folder / "references")
        write_jsonl(path, [_drawn(draw(index), folder, path) for index in range(count)])
    return path


def _mark(draw: Callable[[int], PocketCase]) -> str:
    """A short hash of the first cases, every kind of edit among them."""
    mark = hashlib.blake2b(digest_size=4)
    for case in map(draw, range(6)):
        mark.update(case.prompt.encode())
        mark.update(b"".join(picture.tobytes() for picture in case.references))
    return mark.hexdigest()


def _count(source: str, task: Task) -> int:
    count = source.split(":")[-1]
    if task_of(source) != task:
        raise CaseError(f"{source} stands under data.{task}; move it, or write pocket:{task}:{count}")
    if not 0 < int(count) <= LIMIT:
        raise CaseError(f"{source}: ask for 1 to {LIMIT:,} cases")
    return int(count)


def _drawn(drawn: PocketCase, folder: Path, path: Path) -> Case:
    """The case, with its references written to disk."""
    references = []
    for number, picture in enumerate(drawn.references):
        reference = folder / "references" / f"{drawn.id}-{number}.png"
        if not reference.exists():
            durable.replace_atomically(reference, partial(_save, picture))
        references.append(reference)
    task: Task = "edit" if references else "t2i"
    return Case(drawn.id, task, drawn.prompt, drawn.category, tuple(references), source="pocket", where=str(path))


def _save(picture: Image.Image, path: Path) -> None:
    picture.save(path, format="PNG")
