"""Suites of published benchmarks, from files that their authors publish and the user has downloaded.

They keep their categories, ids and numbers of seeds. Nothing is fetched; each benchmark has its own licence.

    gedit     GEdit-Bench: parquet with task_type, key, instruction, instruction_language, input_image_raw
    imgedit   ImgEdit-Bench: basic_edit.json or singleturn.json {key: {id: picture, prompt, edit_type}}, pictures beside
    longtext  LongText-Bench: text_prompts.jsonl with prompt_id, prompt, category, text (the lines to be read)
    geneval   GenEval: evaluation_metadata.jsonl with tag, include, prompt
    oneig     OneIG-Bench: OneIG-Bench.csv with category, id, prompt_en; scripts/text/text_content.csv if it is there
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from fewstep.bench.drafts import DraftCase, SuiteHeading
from fewstep.bench.suite_files import refuse_taken, write_suite
from fewstep.data.pictures import open_picture
from fewstep.runtime.errors import (
    CaseError,
    EnvironmentRefused,
    SuiteError,
)
from fewstep.runtime.strict_json import load_json

PUBLISHED_SEEDS = 4  # field: LongText-Bench, GenEval and OneIG-Bench draw four pictures of each prompt
_Row = dict[str, Any]


@dataclass(frozen=True)
class ImportedSuite:
    heading: SuiteHeading
    drafts: Iterator[DraftCase]


def import_suite(layout: str, source: Path, to: Path, language: str | None = None) -> str:
    """The suite in `to`, and its hash. layout: one of READERS. language: "en" (the default), "cn" or "zh".

    Raises:
        SuiteError: an unknown layout, files that are not there or not of that layout, or `to` is taken.
    """
    if layout not in READERS:
        raise SuiteError(f"no importer '{layout}'; there are: {', '.join(READERS)}")
    if language not in (None, "en", "cn", "zh"):
        raise SuiteError(f"--language is en, or cn (also written zh), not '{language}'")
    if not source.exists():
        raise SuiteError(f"{source} is not there; name the downloaded folder or file")
    refuse_taken(to)
    found = READERS[layout](source, language not in (None, "en"))
    return write_suite(found.heading, found.drafts, to)


# ---- edits


def gedit(source: Path, chinese: bool) -> ImportedSuite:
    """Instructions of one language; the picture as its author uploaded it (input_image_raw)."""
    files = sorted(source.rglob("*.parquet")) if source.is_dir() else [source]
    if not files or any(file.suffix != ".parquet" for file in files):
        raise SuiteError(f"{source} holds no .parquet file; name the folder that GEdit-Bench was downloaded into")
    language = "cn" if chinese else "en"
    return ImportedSuite(_heading("gedit", "edit", chinese), _gedit(files, language))


def _gedit(files: Sequence[Path], language: str) -> Iterator[DraftCase]:
    for file in files:
        for number, row in enumerate(_parquet(file)):
            where = f"{file}, row {number}"
            if _text(row, "instruction_language", where) == language:
                task, key = _text(row, "task_type", where), _text(row, "key", where)
                picture = _unpacked(row.get("input_image_raw") or row.get("input_image"), where)
                yield DraftCase(
                    _id("gedit", task, key), _text(row, "instruction", where), task, (picture,), source="GEdit"
                )


def imgedit(source: Path, chinese: bool) -> ImportedSuite:
    """The single-turn part. The file's keys are the published names of the answers."""
    _english_only("ImgEdit-Bench", chinese)
    file = _file(source, ("basic_edit.json", "singleturn.json"))
    content = _json(file)
    if not isinstance(content, dict):
        raise SuiteError(f"{file} is no object of edits by key, as ImgEdit-Bench publishes it")
    return ImportedSuite(_heading("imgedit", "edit"), _imgedit(file, content))


def _imgedit(file: Path, content: _Row) -> Iterator[DraftCase]:
    for key, row in content.items():
        where = f"{file}, {key}"
        if not isinstance(row, dict):
            raise SuiteError(f"{where}: an edit is an object with id, prompt and edit_type, not {row!r:.60}")
        name = _text(row, "id", where)
        places = [file.parent / part / name for part in ("", "singleturn", "original_images")]
        place = next((place for place in places if place.is_file()), places[0])
        kind = _text(row, "edit_type", where)
        picture = open_picture(place, where)
        yield DraftCase(_id("imgedit", key), _text(row, "prompt", where), kind, (picture,), source="ImgEdit")


# ---- text to image


def longtext(source: Path, chinese: bool) -> ImportedSuite:
    file = _file(source, ("text_prompts_zh.jsonl" if chinese else "text_prompts.jsonl",))
    return ImportedSuite(_heading("longtext", "t2i", chinese, PUBLISHED_SEEDS), _longtext(file))


def _longtext(file: Path) -> Iterator[DraftCase]:
    for where, row in _rows(file):
        lines = row.get("text")
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise SuiteError(f"{where}: text is {lines!r:.60}; LongText-Bench lists the lines to be read")
        name = _id("longtext", f"{_text(row, 'prompt_id', where):0>4}")
        category = _text(row, "category", where)
        yield DraftCase(name, _text(row, "prompt", where), category, expect={"text": lines}, source="LongText-Bench")


def geneval(source: Path, chinese: bool) -> ImportedSuite:
    """Objects with their counts, colours and positions go into `expect`, for a detector."""
    _english_only("GenEval", chinese)
    file = _file(source, ("evaluation_metadata.jsonl",))
    return ImportedSuite(_heading("geneval", "t2i", seeds=PUBLISHED_SEEDS), _geneval(file))


def _geneval(file: Path) -> Iterator[DraftCase]:
    for number, (where, row) in enumerate(_rows(file)):
        expect = {"objects": row.get("include", []), "absent": row.get("exclude", [])}
        tag = _text(row, "tag", where)
        yield DraftCase(
            _id("geneval", f"{number:05d}"), _text(row, "prompt", where), tag, expect=expect, source="GenEval"
        )


def oneig(source: Path, chinese: bool) -> ImportedSuite:
    file = _file(source, ("OneIG-Bench-ZH.csv" if chinese else "OneIG-Bench.csv",))
    contents = file.parent / "scripts" / "text" / ("text_content_zh.csv" if chinese else "text_content.csv")
    texts = {row["id"]: row["text_content"] for row in _csv(contents, ("id", "text_content"))}
    heading = _heading("oneig", "t2i", chinese, PUBLISHED_SEEDS, "CC-BY-NC-4.0")
    return ImportedSuite(heading, _oneig(file, "prompt_cn" if chinese else "prompt_en", texts))


def _oneig(file: Path, column: str, texts: dict[str, str]) -> Iterator[DraftCase]:
    """Ids count within a category."""
    for number, row in enumerate(_csv(file, ("category", "id", column)), start=2):
        where = f"{file}:{number}"
        category = _text(row, "category", where)
        told = texts.get(row["id"]) if category == "Text_Rendering" else None
        expect = {} if told is None else {"text": [line for line in told.splitlines() if line.strip()]}
        name = _id("oneig", category, _text(row, "id", where))
        yield DraftCase(name, _text(row, column, where), category, expect=expect, source="OneIG-Bench")


READERS: dict[str, Callable[[Path, bool], ImportedSuite]] = {
    "gedit": gedit,
    "imgedit": imgedit,
    "longtext": longtext,
    "geneval": geneval,
    "oneig": oneig,
}

# ---- files


def _heading(name: str, task: str, chinese: bool = False, seeds: int = 1, licence: str | None = None) -> SuiteHeading:
    return SuiteHeading(f"{name}-cn" if chinese else name, "1", task, seeds, None, licence)  # type: ignore[arg-type]


def _english_only(name: str, chinese: bool) -> None:
    if chinese:
        raise SuiteError(f"{name} is published in English only; leave --language out")


def _id(*parts: str) -> str:
    return re.sub(r"[^\w.-]+", "-", "-".join(parts))


def _file(source: Path, names: Sequence[str]) -> Path:
    """The file itself, or the one of these names in a folder."""
    if source.is_file():
        return source
    found = [path for name in names for path in sorted(source.rglob(name))]
    if not found:
        raise SuiteError(f"{source} holds no {' or '.join(names)}; name the folder or the file itself")
    return found[0]


def _rows(file: Path) -> Iterator[tuple[str, _Row]]:
    for number, line in enumerate(_read(file).splitlines(), start=1):
        if line.strip():
            where = f"{file}:{number}"
            try:
                row = load_json(line)
            except ValueError as error:
                raise SuiteError(f"{where}: no JSON ({error}); download the file again") from error
            if not isinstance(row, dict):
                raise SuiteError(f"{where}: a line holds one object, not {line:.40}")
            yield where, row


def _json(file: Path) -> Any:
    try:
        return load_json(_read(file))
    except ValueError as error:
        raise SuiteError(f"{file}: no JSON ({error}); download the file again") from error


def _csv(file: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows; none if there is no file."""
    if not file.is_file():
        return []
    reader = csv.DictReader(io.StringIO(_read(file)))
    lacking = [column for column in columns if column not in (reader.fieldnames or ())]
    if lacking:
        raise SuiteError(f"{file} lacks the column {lacking[0]}; it has {', '.join(reader.fieldnames or ())}")
    return list(reader)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(f"{file} cannot be read as UTF-8 text ({error}); download the file again") from error


def _text(row: _Row, name: str, where: str) -> str:
    value = row.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise SuiteError(f"{where}: {name} is {value!r:.60}; this is another layout than the published one")
    return value.strip()


def _parquet(file: Path) -> Iterator[_Row]:
    """Row by row, because the rows hold pictures."""
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError as error:
        raise EnvironmentRefused("parquet files need pyarrow: pip install 'fewstep[data]'") from error
    try:
        for batch in parquet.ParquetFile(file).iter_batches(batch_size=16):
            yield from batch.to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's own errors are these
        raise SuiteError(f"{file} is no whole parquet file ({error}); download it again") from error


def _unpacked(value: Any, where: str) -> Image.Image:
    """A picture as datasets stores it: {"bytes", "path"}."""
    data = value.get("bytes") if isinstance(value, dict) else None
    if not isinstance(data, bytes):
        raise SuiteError(f"{where}: the picture lies in no bytes here; download the parquet files of the hub")
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.convert("RGBA" if "A" in picture.getbands() else "RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise CaseError(f"{where}: no readable picture ({error}); download the file again") from error
