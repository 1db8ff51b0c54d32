"""Where the pictures of a call are written. Nothing that is there already is replaced, unless that is asked for."""

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewstep.runtime import durable
from fewstep.runtime.errors import RunError
from fewstep.sample.call import AskedPicture, SampleCall, SampledModel

FIELDS = ("prompt", "seed", "model")
KNOWN = ", ".join(f"{{{name}}}" for name in FIELDS)
FIELD = re.compile(r"\{([^{}]*)\}")
MOST_BYTES = 80  # of a field's value; a file's name has 255 bytes at most
SHEET_ROWS = 40  # of one contact sheet; more rows go on another
SHEET = "sheet.png"


@dataclass(frozen=True)
class CallFiles:
    """pictures: by number of the model and of the picture; empty if only a sheet was asked for. sheets: a sheet has at
    most SHEET_ROWS rows."""

    pictures: Mapping[tuple[int, int], Path]
    sheets: tuple[Path, ...]

    def refuse_there(self) -> None:
        """
        Raises:
            RunError: one of the files is there already.
        """
        there = [path for path in (*self.pictures.values(), *self.sheets) if path.exists() or path.is_symlink()]
        if there:
            more = f" (and {len(there) - 1:,} more)" if len(there) > 1 else ""
            raise RunError(f"{there[0]} is there already{more}; give another --out, or replace it with --overwrite")

    def refuse_unwritable(self) -> None:
        """
        Raises:
            EnvironmentRefused: one of the files cannot be written.
        """
        for path in {path.parent: path for path in (*self.pictures.values(), *self.sheets)}.values():
            durable.refuse_unwritable(path)


def call_files(to: Path, call: SampleCall, compared: bool) -> CallFiles:
    """The files of a call. `to` is a .png (for one picture, or for the sheet of a comparison alone), a folder, or a
    pattern with fields of FIELDS.

    Raises:
        RunError: several pictures of one file name, an unknown field, a brace too many, or another format than PNG.
    """
    pattern = str(to)
    fields = FIELD.findall(pattern)
    if unknown := [name for name in fields if name not in FIELDS]:
        raise RunError(f"--out has an unknown field {{{unknown[0]}}}; it may have {KNOWN}")
    if set(FIELD.sub("", pattern)) & {"{", "}"}:
        raise RunError(f"--out has a brace without its other half; a field is one of {KNOWN}")
    if to.suffix and to.suffix.lower() != ".png" and "}" not in to.suffix:
        raise RunError(f"pictures are written as PNG, not as {to.suffix}; give a .png file or a folder as --out")
    if fields:
        named = pattern if to.suffix.lower() == ".png" else f"{pattern}.png"
        above = Path(pattern[: pattern.index("{")] + "x").parent
        pictures, sheets = _by_pattern(named, call), _sheets(above / SHEET, call) if compared else ()
        if both := set(map(os.path.normpath, sheets)) & set(map(os.path.normpath, pictures.values())):
            raise RunError(f"a picture and a contact sheet would both be {min(both)}; give --out another pattern")
        return CallFiles(pictures, sheets)
    if to.suffix.lower() == ".png":
        return _one_file(to, call, compared)
    pictures = {(m, p): to / _name(model, asked, call) for m, model, p, asked in _each(call)}
    return CallFiles(pictures, _sheets(to / SHEET, call) if compared else ())


def _one_file(to: Path, call: SampleCall, compared: bool) -> CallFiles:
    if compared:
        return CallFiles({}, _sheets(to, call))
    count = len(call.models) * len(call.pictures)
    if count > 1:
        raise RunError(f"{count} pictures do not fit into {to}; give a folder as --out")
    return CallFiles({(0, 0): to}, ())


def _each(call: SampleCall) -> list[tuple[int, SampledModel, int, AskedPicture]]:
    return [(m, model, p, asked) for m, model in enumerate(call.models) for p, asked in enumerate(call.pictures)]


def _name(model: SampledModel, asked: AskedPicture, call: SampleCall) -> str:
    tail = f"-{slug(model.name)}" if len(call.models) > 1 else ""
    return f"{asked.number:03d}-seed{asked.seed}{tail}.png"


def _by_pattern(pattern: str, call: SampleCall) -> dict[tuple[int, int], Path]:
    found = {(m, p): _filled(pattern, model, asked) for m, model, p, asked in _each(call)}
    counts = Counter(map(os.path.normpath, found.values()))  # a/../b is b
    if twice := next((name for name, count in counts.items() if count > 1), None):
        raise RunError(f"several pictures would be {twice}; give --out the fields that differ, of {KNOWN}")
    return found


def _filled(pattern: str, model: SampledModel, asked: AskedPicture) -> Path:
    values = {"prompt": slug(asked.prompt), "seed": str(asked.seed), "model": slug(model.name)}
    return Path(FIELD.sub(lambda match: values[match[1]], pattern))


def slug(text: str) -> str:
    """The text as a part of a file name: letters and digits of any script, joined by dashes, in MOST_BYTES bytes. What
    is cut ends in a hash of the whole, so that two long prompts that begin alike have two names."""
    composed = unicodedata.normalize("NFC", text)
    whole = "".join(c if c.isalnum() or unicodedata.combining(c) else "-" for c in composed)
    whole = re.sub("-+", "-", whole).strip("-") or "picture"
    if len(whole.encode()) <= MOST_BYTES:
        return whole
    told = hashlib.blake2b(composed.encode(), digest_size=4).hexdigest()
    return f"{whole.encode()[: MOST_BYTES - 9].decode('utf-8', 'ignore').rstrip('-')}-{told}"


def _sheets(first: Path, call: SampleCall) -> tuple[Path, ...]:
    count = -(-len(call.pictures) // SHEET_ROWS)
    return (first, *(first.with_name(f"{first.stem}-{i + 1}{first.suffix}") for i in range(1, count)))


def sheet_rows(sheet: int, count: int) -> Sequence[int]:
    """Which of `count` pictures are rows of that sheet."""
    return range(sheet * SHEET_ROWS, min((sheet + 1) * SHEET_ROWS, count))
