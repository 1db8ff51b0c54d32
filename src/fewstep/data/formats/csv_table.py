""".csv and .tsv: a line of column names (docs/cases.md says which), then one case a row."""

import csv
import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

from fewstep.data.cases import (
    CaseOrError,
    case_of,
    refuse_columns,
)
from fewstep.data.formats.lines import text_of
from fewstep.data.key_roles import ALSO_WORDS, role_of
from fewstep.data.picture_values import pictures_in
from fewstep.runtime.errors import CaseError

NUMBERS = ("height", "width", "seed")
SEVERAL = "|"  # between the paths of one cell


def csv_table(path: Path, thorough: bool) -> Iterator[CaseOrError]:
    """The cases of a table. A cell of references holds one path, several with | between, or a JSON list. Empty cells
    count as absent."""
    rows = _rows(path)
    place, names = next(rows, (1, []))
    if isinstance(names, CaseError):
        raise names
    names = [name.strip() for name in names]
    refuse_columns(names, f"{path}:{place}")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CaseError(f"{path}:{place}: column {twice[0]!r} stands there twice; rename one")
    for place, cells in rows:
        where = f"{path}:{place}"
        try:
            yield case_of(_record(names, cells, where), path.parent, where, f"{path.stem}-{place}", thorough)
        except CaseError as error:
            yield error


def _rows(path: Path) -> Iterator[tuple[int, list[str] | CaseError]]:
    """The rows that are not blank, each with the number of its first line. An error ends the rows.

    Raises:
        CaseError: the file cannot be read, or is not UTF-8.
    """
    text = text_of(path)
    reader = csv.reader(StringIO(text, newline=""), delimiter=_delimiter(path, text), strict=True)
    while True:
        place = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield place, CaseError(f"{path}:{place}: torn or no CSV ({error}); close its quotes, or remove the row")
            return
        if any(cell.strip() for cell in row):
            yield place, row


def _delimiter(path: Path, text: str) -> str:
    """Tabs in .tsv. Otherwise commas, or semicolons (as spreadsheets write them in many countries) if the first line
    has no comma."""
    head = text.partition("\n")[0]
    if path.suffix.lower() == ".tsv":
        return "\t"
    return ";" if ";" in head and "," not in head else ","


def _record(names: list[str], cells: list[str] | CaseError, where: str) -> dict[str, Any]:
    if isinstance(cells, CaseError):
        raise cells
    if len(cells) != len(names):
        raise CaseError(
            f"{where}: {len(cells)} cells under {len(names)} columns: torn, or a comma in a text without quotes"
        )
    return {name: _value(name, cell.strip(), where) for name, cell in zip(names, cells, strict=True) if cell.strip()}


def _value(name: str, cell: str, where: str) -> Any:
    if name in NUMBERS:
        return _number(cell)
    role = role_of(name)
    if role is None or role.role != "references":
        return cell
    if role.stem in ALSO_WORDS and not pictures_in(cell.strip("[]\"' ").split(SEVERAL)):
        return cell
    if cell.startswith("["):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError) as error:
            raise CaseError(f"{where}: {name} holds {cell:.60}, no JSON list; write paths with | between") from error
    return [part.strip() for part in cell.split(SEVERAL)] if SEVERAL in cell else cell


def _number(cell: str) -> int | float | str:
    """As a number if it is one; otherwise unchanged, and the case's own check reports what is wrong."""
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell
