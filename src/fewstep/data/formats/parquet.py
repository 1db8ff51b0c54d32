"""Parquet: one case a row, columns as in docs/cases.md. Pictures are paths, bytes, or what Hugging Face's `datasets`
writes: {bytes, path}. Needs pyarrow, which is large: it comes with the extra `data`."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fewstep.data.cases import (
    ALIASES,
    KNOWN,
    CaseOrError,
    case_of,
    refuse_columns,
)
from fewstep.data.formats.extracted import save_picture
from fewstep.runtime.errors import CaseError, EnvironmentRefused

ROWS = 32  # read at a time; rows may hold pictures
PICTURES = (*ALIASES["references"], *ALIASES["target"])


def parquet(path: Path, unpack_to: Path, thorough: bool) -> Iterator[CaseOrError]:
    """where: path:N, rows counted from 1.

    Raises:
        CaseError: the file cannot be read, or has no column of prompts.
        EnvironmentRefused: pyarrow is not installed, or pictures cannot be written.
    """
    pyarrow, reader = _pyarrow(), importlib.import_module("pyarrow.parquet")
    number = 0
    try:
        with reader.ParquetFile(path) as file:
            names = file.schema_arrow.names
            refuse_columns(names, str(path))
            for batch in file.iter_batches(ROWS, columns=[name for name in names if name in KNOWN]):
                for row in batch.to_pylist():
                    number += 1
                    yield _entry(row, path, number, unpack_to, thorough)
    except (pyarrow.ArrowException, OSError) as error:
        after = f" after row {number}" if number else ""
        raise CaseError(f"{path}: cannot be read as Parquet{after} ({error!s:.120}); write or copy it again") from error


def _pyarrow() -> Any:
    """The package, imported only when a Parquet file is read: most users do not have it."""
    try:
        return importlib.import_module("pyarrow")
    except ImportError as error:
        raise EnvironmentRefused(
            "Parquet files are read with pyarrow, which is not installed: pip install 'fewstep[data]'. "
            "Or write the cases as .jsonl"
        ) from error


def _entry(row: dict[str, Any], path: Path, number: int, unpack_to: Path, thorough: bool) -> CaseOrError:
    where = f"{path}:{number}"
    try:
        pictures = {name: _paths(value, unpack_to, where) for name, value in row.items() if name in PICTURES}
        record = {name: _present(value) for name, value in row.items()} | pictures
        return case_of(record, path.parent, where, f"{path.stem}-{number}", thorough)
    except CaseError as error:
        return error


def _paths(value: Any, unpack_to: Path, where: str) -> Any:
    """Pictures as paths. Those that are bytes are written as files."""
    if isinstance(value, list):
        return [_paths(item, unpack_to, where) for item in value]
    if isinstance(value, dict) and "bytes" in value:
        return _paths(value["bytes"] or value.get("path"), unpack_to, where)
    return str(save_picture(value, unpack_to, where).absolute()) if isinstance(value, bytes) else _present(value)


def _present(value: Any) -> Any:
    """Whether there is a value. NaN is how table tools write a missing number."""
    return None if isinstance(value, float) and value != value else value
