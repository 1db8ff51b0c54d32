"""Cases that a reader of the playground keeps, and the suites that are made of them.

They lie in the first folder of the studio: my-suite/cases.jsonl with its pictures, which `fewstep sample --prompts` and
recipes read too, and a folder for each suite. A suite is frozen, so further cases need another one.
"""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.bench.drafts import DraftCase, SuiteHeading
from fewstep.bench.suite_files import write_suite
from fewstep.data.cases import Case
from fewstep.data.pictures import open_picture
from fewstep.data.sources import cases_of, entries
from fewstep.run.studio.answers import StudioRefused
from fewstep.runtime import durable
from fewstep.runtime.task import TASKS

FOLDER, CASES = "my-suite", "cases.jsonl"
CATEGORY = "mine"


@dataclass(frozen=True)
class MySuite:
    """root: a folder of the studio."""

    root: Path

    @property
    def folder(self) -> Path:
        return self.root / FOLDER

    def cases(self) -> list[Case]:
        """
        Raises:
            CaseError: a line that is none.
        """
        file = self.folder / CASES
        return cases_of(entries(file), str(file)) if file.is_file() else []

    def count(self) -> int:
        """How many lines there are, whatever they hold."""
        return sum(1 for _ in durable.read_jsonl(self.folder / CASES))

    def keep(self, prompt: str, references: Sequence[Path], seed: int, size: Sequence[int] | None) -> int:
        """Adds a case, and returns how many there are.

        Raises:
            StudioRefused: it is there already.
        """
        named = hashlib.blake2b(prompt.encode(), digest_size=6)
        for path in references:
            named.update(path.read_bytes())
        name, held = f"{CATEGORY}-{named.hexdigest()}", self.cases()
        if any(case.id == name for case in held):
            raise StudioRefused("your suite has this case already", 409)
        durable.make_folder(self.folder / "pictures")
        record: dict[str, Any] = {"id": name, "task": "edit" if references else "t2i", "prompt": prompt}
        record |= {"category": CATEGORY, "seed": seed}
        for i, path in enumerate(references):
            picture = f"pictures/{name}-{i}.png"
            shutil.copyfile(path, self.folder / picture)
            record.setdefault("reference_images", []).append(picture)
        if size is not None:
            record |= {"height": size[0], "width": size[1]}
        durable.append_jsonl(self.folder / CASES, record)
        return len(held) + 1

    def freeze(self) -> list[Path]:
        """Makes a suite of each task, of the cases there are, where there is none of them yet. Returns their folders.

        Raises:
            StudioRefused: there is no case.
        """
        held = self.cases()
        if not held:
            raise StudioRefused("your suite has no case yet; add a drawing to it")
        found = []
        for task in TASKS:
            own = [case for case in held if case.task == task]
            folder = self.folder / f"{task}-{len(own)}"
            if own and not folder.exists():
                write_suite(SuiteHeading(f"my-{task}", str(len(own)), task), [_draft(case) for case in own], folder)
            found += [folder] if own else []
        return found


def _draft(case: Case) -> DraftCase:
    references = tuple(open_picture(path, case.where) for path in case.references)
    size = None if case.height is None or case.width is None else (case.height, case.width)
    return DraftCase(case.id, case.prompt, case.category, references, size=size)
