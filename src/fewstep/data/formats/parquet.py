"""Parquet: one case a row, columns as in docs/cases.md. Pictures are paths, bytes, or what Hugging Face's `datasets`
writes: {bytes, path}. Needs pyarrow, which is large: it comes with the extra `data`."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fewstep.data.cases import STATED, CaseOrError, case_of, refuse_columns
from fewstep.data.formats.extracted import save_picture
from fewstep.data.key_roles import ALSO_WORDS, role_of
from fewstep.data.picture_values import pictures_in
from fewstep.runtime.errors import CaseError, EnvironmentRefused

ROWS = 32  # read at a time; rows may hold pictures


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
            schema = file.schema_arrow
            refuse_columns(schema.names, str(path))
            if twice := sorted({name for name in schema.names if schema.names.count(name) > 1}):
                raise CaseError(f"{path}: column {twice[0]!r} stands there twice; rename one")
            read = [field.name for field in schema if _is_read(field)]
            unread = dict.fromkeys(name for name in schema.names if name not in read)
            for batch in file.iter_batches(ROWS, columns=read):
                for row in _rows(batch):
                    number += 1
                    yield _entry(row, unread, path, number, unpack_to, thorough)
    except (pyarrow.ArrowException, OSError) as error:
        after = f" after row {number}" if number else ""
        raise CaseError(f"{path}: cannot be read as Parquet{after} ({error!s:.120}); write or copy it again") from error


def _is_read(field: Any) -> bool:
    """Columns with a meaning, and those that may hold pictures: these must not be dropped without a word."""
    return field.name in STATED or role_of(field.name) is not None or not _is_number(field.type)


def _is_number(kind: Any) -> bool:
    """Lists of numbers too; an embedding is one."""
    types = importlib.import_module("pyarrow.types")
    while types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        kind = kind.value_type
    return bool(types.is_primitive(kind) or types.is_decimal(kind) or types.is_null(kind))


def _rows(batch: Any) -> Iterator[dict[str, Any] | Exception]:
    """The rows as Python values; in place of a row that has none (a date out of range, text that is not UTF-8) the
    reason."""
    for i in range(batch.num_rows):
        try:
            yield batch.slice(i, 1).to_pylist()[0]
        except (ValueError, ArithmeticError) as error:
            yield error


def _pyarrow() -> Any:
    """The package, imported only when a Parquet file is read: most users do not have it."""
    try:
        return importlib.import_module("pyarrow")
    except ImportError as error:
        raise EnvironmentRefused(
            "Parquet files are read with pyarrow, which is not installed: pip install 'fewstep[data]'. "
            "Or write the cases as .jsonl"
        ) from error


def _entry(
    row: dict[str, Any] | Exception, unread: dict[str, None], path: Path, number: int, unpack_to: Path, thorough: bool
) -> CaseOrError:
    where = f"{path}:{number}"
    try:
        if isinstance(row, Exception):
            raise CaseError(f"{where}: a value cannot be read ({row!s:.120}); mend it, or take the row out")
        record = {name: _value(name, value, unpack_to, where) for name, value in row.items()}
        return case_of(record | unread, path.parent, where, f"{path.stem}-{number}", thorough)
    except CaseError as error:
        return error


def _value(name: str, value: Any, unpack_to: Path, where: str) -> Any:
    role = role_of(name)
    if role is None or role.role == "prompt" or (role.stem in ALSO_WORDS and not pictures_in(value)):
        return _present(value)
    return _paths(value, unpack_to, where)


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
