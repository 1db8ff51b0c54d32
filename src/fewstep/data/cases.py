"""One training example: a text-to-image prompt, or one edit (reference pictures and an instruction).

The canonical file is JSON Lines. What others write is read too: `key_roles` says under which names.
"""

import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from rapidfuzz import fuzz, process

from fewstep.data.key_roles import (
    ALIASES,
    ALSO_WORDS,
    PictureRole,
    picture_role,
    picture_values,
    role_of,
    without_role,
)
from fewstep.data.picture_values import pictures_in
from fewstep.data.pictures import verify_picture
from fewstep.runtime import durable
from fewstep.runtime.errors import CaseError
from fewstep.runtime.task import TASKS, Task

MAX_WORDS = 2_000  # ours: beyond what any of the text encoders was trained to read
MAX_CHARACTERS = 16_000  # ours; for scripts without spaces
MAX_SIDE = 16_384  # px, ours
NEAR = 88  # of 100: an unknown key this close to a known one counts as misspelt
UNCATEGORISED = "uncategorised"


@dataclass(frozen=True)
class Case:
    """references is empty exactly for t2i. height, width: the target's size in pixels, both or neither; without them
    the recipe's size holds. target is not needed to distil; it is kept for examinations. teacher_prompt: a rewriting of
    `prompt` that the teachers read, while the student reads `prompt`. where: file:line.
    ignored: the keys of its record that mean nothing here."""

    id: str
    task: Task
    prompt: str
    category: str = UNCATEGORISED
    references: tuple[Path, ...] = ()
    target: Path | None = None
    height: int | None = None
    width: int | None = None
    seed: int | None = None
    source: str | None = None
    license: str | None = None
    teacher_prompt: str | None = None
    where: str = ""
    ignored: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        assert (self.task == "edit") == bool(self.references), self

    @property
    def prompts(self) -> tuple[str, ...]:
        """Every text that is encoded of the case, each once: the student's prompt first, then the teachers'."""
        return tuple(dict.fromkeys([self.prompt, self.taught_prompt]))

    @property
    def taught_prompt(self) -> str:
        """What the teachers read."""
        return self.prompt if self.teacher_prompt is None else self.teacher_prompt

    def size(self, default: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the target in pixels."""
        return default if self.height is None or self.width is None else (self.height, self.width)


CaseOrError = Case | CaseError  # what a line holds: a case, or the reason why it is none
STATED = frozenset(f.name for f in fields(Case)) - {"where", "ignored", "references", "target"}  # keys by these names
SLIPLESS = ALSO_WORDS - STATED  # too common for a key near them to be a slip
KNOWN = STATED | {name for names in ALIASES.values() for name in names}


def case_of(record: Mapping[str, Any], folder: Path, where: str, name: str, thorough: bool = False) -> Case:
    """The case that one record states, called `name` if it has no id of its own. Pictures are relative to `folder` and
    must be there; `thorough` reads them whole. Keys that mean nothing here are left alone, unless they hold a picture
    or look like a slip for one that does.

    Raises:
        CaseError: with `where` and the remedy.
    """
    refuse_slips(record, where)
    roles = {key: picture_role(record, key, folder) for key in record}
    references = _paths(record, "references", folder, where)
    targets = _paths(record, "target", folder, where)
    if len(targets) > 1:
        raise CaseError(f"{where}: {len(targets)} targets; a case has one picture under 'target_image'")
    ignored = tuple(key for key, role in roles.items() if role is None and _means_nothing(key))
    _refuse_without_role(record, ignored, [*references, *targets], folder, where)
    if roles.get("source") is not None:
        record = {**record, "source": None}
    height, width = _side(record, "height", where), _side(record, "width", where)
    if (height is None) != (width is None):
        raise CaseError(f"{where}: height and width come together, or not at all")
    return Case(
        id=_id(record, where) or _writable(name, "the name", where),
        task=_task(record, bool(references), where),
        prompt=prompt_of(_prompt(record, where), where),
        category=_string(record, "category", where) or UNCATEGORISED,
        references=tuple(_picture(folder, text, where, thorough) for text in references),
        target=_picture(folder, targets[0], where, thorough) if targets else None,
        height=height,
        width=width,
        seed=_seed(record, where),
        source=_string(record, "source", where),
        license=_string(record, "license", where),
        teacher_prompt=_teacher_prompt(record, where),
        where=where,
        ignored=ignored,
    )


def record_of(case: Case, folder: Path) -> dict[str, Any]:
    """The canonical record, pictures relative to `folder` where they lie in it. `case_of` reads it back."""
    record: dict[str, Any] = {"id": case.id, "task": case.task, "prompt": case.prompt, "category": case.category}
    if case.references:
        record["reference_images"] = [_relative(path, folder) for path in case.references]
    if case.target is not None:
        record["target_image"] = _relative(case.target, folder)
    for name in ("teacher_prompt", "height", "width", "seed", "source", "license"):
        if (value := getattr(case, name)) is not None:
            record[name] = value
    return record


def prompt_of(value: object, where: str) -> str:
    """A prompt, stripped.

    Raises:
        CaseError: missing, empty, too long, or not encodable text.
    """
    if value is None:
        raise CaseError(f"{where}: no prompt; give one under 'prompt' (or {', '.join(ALIASES['prompt'][1:])})")
    if not isinstance(value, str):
        raise CaseError(f"{where}: the prompt is {value!r:.60}; give it as text")
    prompt = value.strip()
    if not prompt:
        raise CaseError(f"{where}: the prompt is empty; write one, or remove the line")
    words = len(prompt.split())
    if words > MAX_WORDS:
        raise CaseError(f"{where}: the prompt has {words:,} words, more than {MAX_WORDS:,}; shorten it")
    if len(prompt) > MAX_CHARACTERS:
        raise CaseError(f"{where}: the prompt has {len(prompt):,} characters, more than {MAX_CHARACTERS:,}; shorten it")
    return _writable(prompt, "prompt", where)


def refuse_columns(names: Collection[str], where: str) -> None:
    """
    Raises:
        CaseError: a table without a column of prompts, or with a column whose name looks like a slip.
    """
    refuse_slips(names, where)
    if not any(name in names for name in ALIASES["prompt"]):
        raise CaseError(
            f"{where}: no column of prompts among {', '.join(names) or 'none'}; name it 'prompt' "
            f"(or {', '.join(ALIASES['prompt'][1:])})"
        )


def write_jsonl(path: Path, cases: Iterable[Case]) -> None:
    """The canonical file, whole or absent."""
    records = (json.dumps(record_of(case, path.parent), ensure_ascii=False) for case in cases)
    durable.write_atomically(path, "".join(f"{line}\n" for line in records))


def distinct(entries: Iterable[CaseOrError]) -> Iterable[CaseOrError]:
    """The same entries, with the second entry of an id replaced by an error that names both places."""
    first: dict[str, str] = {}
    for entry in entries:
        if isinstance(entry, Case) and first.setdefault(entry.id, entry.where) != entry.where:
            yield CaseError(f"{entry.where}: id {entry.id!r} was used at {first[entry.id]}; ids are unique")
        else:
            yield entry


def _task(record: Mapping[str, Any], has_references: bool, where: str) -> Task:
    """The task as stated; without one, edit if there are references and t2i if there are none."""
    stated = record.get("task")
    if stated is None:
        return "edit" if has_references else "t2i"
    if stated not in TASKS:
        raise CaseError(f"{where}: task {stated!r:.40} is not known; it is 't2i' or 'edit'")
    if stated == "t2i" and has_references:
        raise CaseError(f"{where}: a t2i case has no reference images; make it an edit, or remove them")
    if stated == "edit" and not has_references:
        raise CaseError(f"{where}: an edit needs at least one picture under 'reference_images'")
    return "edit" if stated == "edit" else "t2i"


def _prompt(record: Mapping[str, Any], where: str) -> Any:
    """The value under the canonical name, or else under an alias; two aliases that disagree are refused."""
    canonical, *others = ALIASES["prompt"]
    if record.get(canonical) not in (None, "", []):
        return record[canonical]
    given = {name: record[name] for name in others if record.get(name) not in (None, "", [])}
    values = [value.strip() if isinstance(value, str) else value for value in given.values()]
    if any(value != values[0] for value in values[1:]):
        raise CaseError(f"{where}: {' and '.join(given)} disagree; say which one is meant under {canonical!r}")
    return values[0] if values else record.get(canonical)


def _teacher_prompt(record: Mapping[str, Any], where: str) -> str | None:
    value = _string(record, "teacher_prompt", where)
    return None if value is None else prompt_of(value, f"{where}: teacher_prompt")


def _paths(record: Mapping[str, Any], role: PictureRole, folder: Path, where: str) -> list[str]:
    return [_path_text(item, ALIASES[role][0], where) for item in picture_values(record, role, folder, where)]


def _means_nothing(key: str) -> bool:
    found = role_of(key)
    return key not in STATED and (found is None or found.stem in ALSO_WORDS)


def _refuse_without_role(
    record: Mapping[str, Any], ignored: Collection[str], used: Collection[str], folder: Path, where: str
) -> None:
    """A key that names a picture of the case once more is left alone."""
    known = {os.path.normpath(folder / text) for text in used}
    for key in ignored:
        for picture in pictures_in(record[key]):
            if os.path.normpath(folder / picture) not in known:
                raise without_role(key, picture, where)


def _path_text(value: object, name: str, where: str) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise CaseError(f"{where}: {name} holds {value!r:.60}; give paths of pictures as text")
    if "://" in value:
        raise CaseError(f"{where}: {value:.80} is an address; download the picture and give its path")
    return _writable(value, name, where)


def _picture(folder: Path, text: str, where: str, thorough: bool) -> Path:
    path = folder / text
    verify_picture(path, where, thorough)
    return path


def _id(record: Mapping[str, Any], where: str) -> str | None:
    value = record.get("id")
    value = str(value) if isinstance(value, int) and not isinstance(value, bool) else _string(record, "id", where)
    if value is not None and (len(value) > 200 or not value.isprintable()):
        raise CaseError(f"{where}: an id is at most 200 printable characters, not {value!r:.60}")
    return value


def _string(record: Mapping[str, Any], name: str, where: str) -> str | None:
    value = record.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise CaseError(f"{where}: {name} is {value!r:.60}; give it as text")
    return _writable(value, name, where).strip() or None


def _whole(record: Mapping[str, Any], name: str, where: str) -> int | None:
    """A whole number. 512.0, as table tools write it, counts as 512."""
    value = record.get(name)
    if value is None:
        return None
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole:
        raise CaseError(f"{where}: {name} is {value!r:.60}; give a whole number")
    return int(value)


def _side(record: Mapping[str, Any], name: str, where: str) -> int | None:
    value = _whole(record, name, where)
    if value is not None and not 0 < value <= MAX_SIDE:
        raise CaseError(f"{where}: {name} is {value}; a side has 1 to {MAX_SIDE} pixels")
    return value


def _seed(record: Mapping[str, Any], where: str) -> int | None:
    value = _whole(record, "seed", where)
    if value is not None and not 0 <= value < 2**63:
        raise CaseError(f"{where}: seed is {value}; seeds lie between 0 and 2^63")
    return value


def _writable(text: str, name: str, where: str) -> str:
    """Lone surrogates (broken JSON escapes, names of files that are not UTF-8) and NUL end up as errors far from
    here."""
    if "\0" in text or any(0xD800 <= ord(character) <= 0xDFFF for character in text):
        raise CaseError(f"{where}: {name} holds half a character or a NUL; write the file again as UTF-8")
    return text


def refuse_slips(names: Collection[str], where: str) -> None:
    """A misspelt 'reference_images' would silently turn an edit into text-to-image.

    Raises:
        CaseError: a name that looks like a known one which is itself missing.
    """
    for key in names:
        meant = _meant(key)
        if meant is not None and not any(name in names for name in _names_of(meant)):
            raise CaseError(f"{where}: key {key!r:.60} is not known; {_advice(meant)}")


@cache
def _meant(key: str) -> str | None:
    """The known key that an unknown one is close to."""
    if key in KNOWN or role_of(key) is not None:
        return None
    close = process.extractOne(key.lower(), sorted(KNOWN - SLIPLESS), scorer=fuzz.ratio, score_cutoff=NEAR)
    return None if close is None else close[0]


def _advice(meant: str) -> str:
    """A name for the target is near to names that others give to references, so its meaning is said."""
    if meant in ALIASES["target"]:
        return f"pictures that are edited stand under 'reference_images', and what is wanted of them under {meant!r}"
    return f"did you mean {meant!r}?"


def _names_of(name: str) -> tuple[str, ...]:
    return next((names for names in ALIASES.values() if name in names and name not in ALSO_WORDS), (name,))


def _relative(path: Path, folder: Path) -> str:
    path, folder = path.absolute(), folder.absolute()
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
