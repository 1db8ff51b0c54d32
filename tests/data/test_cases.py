"""What users bring: every format's reading, and every way in which it can be wrong, refused with place and remedy."""

import json
import struct
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fewstep.data.cases import KNOWN, Case, record_of, write_jsonl
from fewstep.data.key_roles import ALIASES
from fewstep.data.pictures import open_picture
from fewstep.data.plan import DataPlan
from fewstep.data.sources import (
    entries,
    read_source,
    task_streams,
)
from fewstep.runtime.errors import CaseError, RecipeError
from tests.data.made_files import T2I, jsonl, picture


def png_header(path: Path, width: int, height: int) -> Path:
    """A PNG that states its size and ends there."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(start + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")))
    return path


def refusal(folder: Path, *records: Any) -> str:
    found = [entry for entry in entries(jsonl(folder, *records), thorough=True) if isinstance(entry, CaseError)]
    assert len(found) == 1, found
    return str(found[0])


# ---- reading


def test_canonical_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    cases = [
        Case("1", "t2i", "ein Boot, 帆船", "landscape", seed=3, height=64, width=96, source="me", license="CC0"),
        Case("2", "edit", "make it blue", references=(tmp_path / "a.png",), target=tmp_path / "a.png"),
    ]
    write_jsonl(tmp_path / "cases.jsonl", cases)
    again = list(entries(tmp_path / "cases.jsonl"))
    assert [record_of(case, tmp_path) for case in again] == [record_of(case, tmp_path) for case in cases]  # type: ignore[arg-type]
    assert [case.where for case in again] == [f"{tmp_path}/cases.jsonl:{n}" for n in (1, 2)]  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ALIASES["prompt"])
def test_prompts_under_any_known_name(tmp_path: Path, name: str) -> None:
    assert read_source(str(jsonl(tmp_path, {name: " a boat "})), "t2i", tmp_path)[0].prompt == "a boat"


@pytest.mark.parametrize("name", ALIASES["references"])
def test_references_under_any_known_name_make_an_edit(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "a.png")
    one, several = read_source(
        str(jsonl(tmp_path, {**T2I, name: "a.png"}, {**T2I, name: ["a.png", str(tmp_path / "a.png")]})),
        "edit",
        tmp_path,
    )
    assert one.references == (tmp_path / "a.png",)
    assert several.references == (tmp_path / "a.png",) * 2


@pytest.mark.parametrize("name", ALIASES["target"])
def test_targets_under_any_known_name(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "a.png")
    case = read_source(str(jsonl(tmp_path, {**T2I, name: "a.png"})), "t2i", tmp_path)[0]
    assert case.target == tmp_path / "a.png"


def test_defaults(tmp_path: Path) -> None:
    case = read_source(str(jsonl(tmp_path, "", {**T2I, "height": 512.0, "width": 256})), "t2i", tmp_path)[0]
    assert (case.id, case.task, case.category) == ("cases-2", "t2i", "uncategorised")
    assert case.size((64, 64)) == (512, 256)
    assert Case("x", "t2i", "y").size((64, 64)) == (64, 64)


def test_a_file_with_both_tasks_gives_each_its_own(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    path = str(jsonl(tmp_path, T2I, {**T2I, "control": "a.png"}))
    assert [case.where[-1] for case in read_source(path, "t2i", tmp_path)] == ["1"]
    assert [case.where[-1] for case in read_source(path, "edit", tmp_path)] == ["2"]


def test_text_files_with_marks_and_foreign_line_ends(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes("﻿a boat\r\n\r\n  ein Öltanker\n".encode())
    cases = read_source(str(tmp_path / "p.txt"), "t2i", tmp_path)
    assert [(case.id, case.prompt) for case in cases] == [("p-1", "a boat"), ("p-3", "ein Öltanker")]


def test_foreign_keys_are_left_alone_and_empty_ones_too(tmp_path: Path) -> None:
    record = {**T2I, "aesthetic": 6.1, "reference_images": [], "target_image": None, "seed": None, "texts": ["x"]}
    assert read_source(str(jsonl(tmp_path, record)), "t2i", tmp_path)[0].task == "t2i"


# ---- refusing


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ('{"prompt": "a bo', "torn or no JSON at column 12"),
        ("[" * 100_000, "mend or remove"),
        ('{"prompt": "a", "prompt": "b"}', "key 'prompt' stands there twice"),
        ('{"prompt": "a", "seed": NaN}', "NaN is no JSON number"),
        ('"a boat"', "one object in braces"),
        ({}, "no prompt; give one under 'prompt' (or text, caption, instruction)"),
        ({"prompt": "  "}, "prompt is empty"),
        ({"prompt": ["a"]}, "give it as text"),
        ({"prompt": "a " * 10_000}, "10,000 words, more than 2,000; shorten it"),
        ({"prompt": "a " * 2_001}, "2,001 words, more than 2,000; shorten it"),
        ({"prompt": "帆" * 20_000}, "20,000 characters"),
        ('{"prompt": "half \\ud83d"}', "half a character"),
        ({"prompt": "a\0b"}, "a NUL"),
        ({"text": "a", "caption": "b"}, "text and caption disagree; say which one is meant under 'prompt'"),
        ({**T2I, "task": "inpaint"}, "task 'inpaint' is not known"),
        ({**T2I, "task": "edit"}, "an edit needs at least one picture under 'reference_images'"),
        ({**T2I, "task": "t2i", "source_image": "a.png"}, "a t2i case has no reference images"),
        ({**T2I, "refrence_images": ["a.png"]}, "'refrence_images' is not known; did you mean 'reference_images'?"),
        ({**T2I, "Source_Image": "a.png"}, "did you mean 'source_image'?"),
        (
            {**T2I, "images": ["a.png"]},
            "'images' is not known; pictures that are edited stand under 'reference_images'",
        ),
        ({**T2I, "reference_images": ["gone.png"]}, "there is no picture"),
        ({**T2I, "reference_images": [3]}, "give paths of pictures as text"),
        ({**T2I, "reference_images": {"a": 1}}, "give paths of pictures as text"),
        ({**T2I, "reference_images": ["https://x.y/a.png"]}, "download the picture"),
        ({**T2I, "reference_images": ["."]}, "is a folder"),
        ({**T2I, "reference_images": ["a" * 5_000]}, "cannot be read"),
        ({**T2I, "reference_images": ["a.png/b.png"]}, "there is no picture"),
        ({**T2I, "target_image": "notes.png"}, "is no readable picture"),
        ({**T2I, "height": 64}, "height and width come together"),
        ({**T2I, "height": 0, "width": 64}, "a side has 1 to"),
        ({**T2I, "height": 10**9, "width": 64}, "a side has 1 to"),
        ({**T2I, "height": "tall", "width": 64}, "give a whole number"),
        ({**T2I, "seed": 1.5}, "give a whole number"),
        ({**T2I, "seed": True}, "give a whole number"),
        ({**T2I, "seed": -1}, "seeds lie between"),
        ({**T2I, "category": 3}, "give it as text"),
        ({**T2I, "id": "a\nb"}, "printable characters"),
        ({**T2I, "id": "a" * 300}, "at most 200"),
    ],
)
def test_bad_records_are_refused_with_place_and_remedy(tmp_path: Path, record: Any, expected: str) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "notes.png").write_text("no picture")
    message = refusal(tmp_path, T2I, record)
    assert expected in message
    assert message.startswith(f"{tmp_path / 'cases.jsonl'}:2: ")


def test_pictures_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "strip.png", (1, 40_000))
    png_header(tmp_path / "bomb.png", 20_000, 20_000)
    png_header(tmp_path / "huge.png", 11_000, 10_000)
    picture(tmp_path / "deep.png", mode="I;16")
    whole = picture(tmp_path / "whole.jpg", (300, 300)).read_bytes()
    (tmp_path / "torn.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    reasons = {
        "strip.png": "1 x 40000 px; sides may differ 16-fold at most",
        "bomb.png": "far too many pixels",
        "huge.png": "11000 x 10000 pixels, more than 100,000,000",
        "deep.png": "8 bits per channel",
        "torn.jpg": "is no readable picture",
        "empty.png": "is no readable picture",
    }
    for name, reason in reasons.items():
        assert reason in refusal(tmp_path, {**T2I, "control": name}), name


def test_pixels_are_read_upright_and_transparency_stays(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter
    picture(tmp_path / "turned.jpg", (40, 30), exif=exif)
    assert open_picture(tmp_path / "turned.jpg", "x").size == (30, 40)
    assert open_picture(picture(tmp_path / "clear.png", mode="RGBA"), "x").mode == "RGBA"
    assert open_picture(picture(tmp_path / "grey.png", mode="L"), "x").mode == "RGB"


def test_mixed_encodings_name_line_and_byte(tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_bytes(json.dumps(T2I).encode() + b"\n" + '{"prompt": "Öl"}'.encode("latin-1") + b"\n")
    with pytest.raises(CaseError, match=r"cases\.jsonl:2: byte 13 of the line \(0xd6\) is not UTF-8"):
        read_source(str(path), "t2i", tmp_path)
    path.write_text("x", encoding="utf-16")
    with pytest.raises(CaseError, match="is UTF-16; save it as UTF-8"):
        read_source(str(path), "t2i", tmp_path)


def test_an_id_may_stand_once(tmp_path: Path) -> None:
    message = refusal(tmp_path, {**T2I, "id": "x"}, {**T2I, "id": 7}, {**T2I, "id": "x"})
    assert "cases.jsonl:3: id 'x' was used at" in message
    assert "cases.jsonl:1; ids are unique" in message


def test_the_first_problems_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    with pytest.raises(CaseError) as refused:
        read_source(str(jsonl(tmp_path, *[{}] * 9, T2I)), "t2i", tmp_path)
    assert str(refused.value).count("no prompt") == 5
    assert "and 4 more: fewstep cases check" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gone.jsonl", "No such file"),
        ("cases.xls", "not as '.xls'"),
        ("d", "no caption in this folder"),
        ("e.txt", "no t2i"),
    ],
)
def test_sources_that_cannot_be_read(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / "cases.xls").write_text("prompt")
    (tmp_path / "d").mkdir()
    (tmp_path / "e.txt").write_text("\n\n")
    with pytest.raises(CaseError, match=expected):
        read_source(str(tmp_path / name), "t2i", tmp_path)


def test_a_json_array_is_no_json_lines(tmp_path: Path) -> None:
    (tmp_path / "cases.jsonl").write_text("[\n" + json.dumps(T2I) + "\n]\n")
    with pytest.raises(CaseError, match="the file is one JSON array; write one object a line"):
        read_source(str(tmp_path / "cases.jsonl"), "t2i", tmp_path)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just("a/" * 3000)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=3), SCALARS, max_size=2)
RECORDS = st.dictionaries(st.sampled_from([*sorted(KNOWN), "x"]), VALUES, max_size=5)


@given(st.lists(st.one_of(st.binary(max_size=60), RECORDS.map(lambda record: json.dumps(record).encode())), max_size=4))
def test_nothing_comes_of_any_file_but_cases_and_refusals(lines: list[bytes]) -> None:
    with TemporaryDirectory() as folder:
        for name in ("x.jsonl", "x.txt"):
            (Path(folder) / name).write_bytes(b"\n".join(lines))
            with suppress(CaseError):
                assert all(isinstance(entry, Case | CaseError) for entry in entries(Path(folder) / name))


# ---- the recipe's section


def test_a_section_becomes_streams(tmp_path: Path) -> None:
    jsonl(tmp_path, *({"prompt": f"{n}", "category": "abc"[n % 3]} for n in range(9)))
    (tmp_path / "more.txt").write_text("one\ntwo\n")
    sources = [{"source": str(tmp_path / "cases.jsonl")}, {"source": str(tmp_path / "more.txt"), "category": "c"}]
    plan = {"t2i": sources, "category_weights": {"t2i": {"a": 1, "c": 2}}}
    (found,) = task_streams(DataPlan.model_validate(plan), "t2i", tmp_path).values
    assert [(stream.weight, len(stream.cases)) for stream in found] == [(1, 3), (1, 3), (1, 2)]
    with pytest.raises(RecipeError, match=r"data\.edit names no source"):
        task_streams(DataPlan.model_validate(plan), "edit", tmp_path)


def test_prompts_are_read_without_torch() -> None:
    """data/ is text and arithmetic; it is asked from processes that should start at once."""
    code = "import sys, fewstep.data.check, fewstep.data.sources; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
