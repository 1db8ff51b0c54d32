"""Training cases of a pocket world, drawn into ordinary files: what `SCHEME:TASK:N` stands for in a recipe.

The first N cases of a task are a pure function of N, so a recipe names its data by one line of text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from fewstep.data.cases import Case, write_jsonl
from fewstep.pocket.asked_case import AskedCase
from fewstep.runtime import durable
from fewstep.runtime.errors import CaseError
from fewstep.runtime.task import TASKS, Task

LIMIT = 1_000_000


@dataclass(frozen=True)
class DrawnWorld:
    """
    Args:
        scheme: what its sources begin with.
        draw: training case `index` of a task.
        marked: so many first cases show every category, kind of edit and size of a task.
        sized: the cases have sizes of their own; else they are of the recipe's.
    """

    scheme: str
    draw: Callable[[Task, int], AskedCase]
    marked: int
    sized: bool = False

    def cases_file(self, source: str, task: Task | None, cache: Path) -> Path:
        """The canonical file of a source, drawn into `cache` if it does not exist yet. References are PNG files; the
        cases file is written last and completes the folder. The folder's name changes with the world, so cases of an
        older world are not reused.

        Raises:
            CaseError: the text makes no sense, or names another task than the recipe lists it under.
        """
        named, count = self.asked(source)
        if task not in (None, named):
            raise CaseError(f"{source} stands under data.{task}; move it, or write {self.scheme}:{task}:{count}")
        folder = cache / f"{self.scheme}-{named}-{count}-{self.mark(named)}"
        path = folder / "cases.jsonl"
        if not path.exists():
            durable.make_folder(folder / "references")
            write_jsonl(path, [self._written(named, index, folder) for index in range(count)])
        return path

    def asked(self, source: str) -> tuple[Task, int]:
        """The task and the number of cases that a source names.

        Raises:
            CaseError: the text has another form, or the number is out of range.
        """
        parts = source.split(":")
        if len(parts) != 3 or parts[1] not in TASKS or not (parts[2].isascii() and parts[2].isdecimal()):
            name = self.scheme
            raise CaseError(f"{source}: {name} sources read {name}:t2i:N or {name}:edit:N, such as {name}:t2i:3000")
        task: Task = "t2i" if parts[1] == "t2i" else "edit"
        if not 0 < int(parts[2]) <= LIMIT:
            raise CaseError(f"{source}: ask for 1 to {LIMIT:,} cases")
        return task, int(parts[2])

    def mark(self, task: Task) -> str:
        """A short hash of the first cases."""
        mark = hashlib.blake2b(digest_size=4)
        for case in (self.draw(task, index) for index in range(self.marked)):
            mark.update(case.prompt.encode())
            mark.update(b"".join(picture.tobytes() for picture in case.references))
        return mark.hexdigest()

    def _written(self, task: Task, index: int, folder: Path) -> Case:
        """The case, with its references written to disk."""
        drawn = self.draw(task, index)
        references = []
        for number, picture in enumerate(drawn.references):
            reference = folder / "references" / f"{drawn.id}-{number}.png"
            if not reference.exists():
                durable.replace_atomically(reference, partial(_save, picture))
            references.append(reference)
        height, width = drawn.size if self.sized else (None, None)
        return Case(
            drawn.id,
            task,
            drawn.prompt,
            drawn.category,
            tuple(references),
            height=height,
            width=width,
            source=self.scheme,
            where=str(folder / "cases.jsonl"),
        )


def _save(picture: Image.Image, path: Path) -> None:
    picture.save(path, format="PNG")
