"""What the names of a record mean, in every format: other tools' edit sets, numbered references, and pictures under
names that mean nothing."""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from fewstep.data.cases import Case
from fewstep.data.check import check_sources
from fewstep.data.convert import convert
from fewstep.data.key_roles import ALIASES, role_of
from fewstep.data.pictures import open_picture, upright_size
from fewstep.data.sources import entries, paths_of
from fewstep.runtime.errors import CaseError, RecipeError
from fewstep.runtime.strict_yaml import load_yaml
from tests.data.made_files import T2I, found, jsonl, packed, picture, png, problems, write

NIGHT = "make it night"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With pictures a.png to d.png that differ."""
    for name, colour in zip("abcd", ("red", "blue", "green", "white"), strict=True):
        write(tmp_path / f"{name}.png", png(colour))
    return tmp_path


def names(case: Case) -> tuple[list[str], str | None]:
    return [path.name for path in case.references], case.target.name if case.target else None


def as_table(folder: Path, record: dict[str, Any]) -> Path:
    return write(folder / "cases.csv", ",".join(record) + "\n" + ",".join(map(str, record.values())) + "\n")


def as_parquet(folder: Path, record: dict[str, Any]) -> Path:
    pyarrow.parquet.write_table(pyarrow.table({k: [v] for k, v in record.items()}), folder / "cases.parquet")
    return folder / "cases.parquet"


def as_parquet_of_bytes(folder: Path, record: dict[str, Any]) -> Path:
    """Pictures as `datasets` writes them."""
    held = {
        k: {"bytes": (folder / v).read_bytes(), "path": v} if str(v).endswith(".png") else v for k, v in record.items()
    }
    return as_parquet(folder, held)


FORMATS = [jsonl, as_table, as_parquet]
EDITS: list[tuple[dict[str, str], list[str], str | None]] = [
    ({"image_path": "a.png", "control_path": "b.png", "caption": NIGHT}, ["b.png"], "a.png"),
    ({"image_path": "a.png", "control_path_0": "b.png", "control_path_1": "c.png", "text": NIGHT},
     ["b.png", "c.png"], "a.png"),
    ({"source": "a.png", "target": "b.png", "prompt": NIGHT}, ["a.png"], "b.png"),
    ({"input": "a.png", "output": "b.png", "instruction": NIGHT}, ["a.png"], "b.png"),
    ({"image": "b.png", "cond_image": "a.png", "caption": NIGHT}, ["a.png"], "b.png"),
    ({"image": "b.png", "conditioning_image": "a.png", "text": NIGHT}, ["a.png"], "b.png"),
    ({"image": "b.png", "init_image": "a.png", "text": NIGHT}, ["a.png"], "b.png"),
    ({"prompt": NIGHT, "input_image": "a.png", "input_image_2": "b.png", "input_image_3": "c.png"},
     ["a.png", "b.png", "c.png"], None),
    ({"prompt": NIGHT, "edit_image": "a.png", "edit_image_1": "b.png"}, ["a.png", "b.png"], None),
    ({"prompt": NIGHT, "control_1": "b.png", "control": "a.png"}, ["a.png", "b.png"], None),
    ({"prompt": NIGHT, "control_image_1": "b.png", "control_image_0": "c.png"}, ["c.png", "b.png"], None),
    ({"prompt": NIGHT, "source_image_2": "b.png", "source_image_1": "a.png"}, ["a.png", "b.png"], None),
    ({"prompt": NIGHT, "source_1": "b.png", "source_2": "a.png"}, ["b.png", "a.png"], None),
    ({"prompt": NIGHT, "control2": "b.png", "control1": "a.png", "image": "c.png"}, ["a.png", "b.png"], "c.png"),
]  # fmt: skip


@pytest.mark.parametrize("write_as", FORMATS)
def test_edit_sets_of_other_tools_are_edits(folder: Path, write_as: Any) -> None:
    for record, references, target in EDITS:
        (case,) = found(write_as(folder, record), folder)
        assert (case.task, case.prompt) == ("edit", NIGHT), record
        assert names(case) == (references, target), record
        assert (case.source, case.ignored) == (None, ()), record


def test_edit_sets_whose_pictures_are_bytes(folder: Path) -> None:
    for record, references, target in EDITS:
        (case,) = found(as_parquet_of_bytes(folder, record), folder)
        assert [path.read_bytes() for path in case.references] == [(folder / name).read_bytes() for name in references]
        assert (case.target.read_bytes() if case.target else None) == (target and (folder / target).read_bytes())


def test_every_name_of_a_reference_may_be_numbered(folder: Path) -> None:
    for name in ALIASES["references"]:
        found_role = role_of(f"{name}_12")
        assert found_role is not None
        assert (found_role.role, found_role.stem, found_role.number) == ("references", name, 12)
    assert role_of("image_2") is None
    assert role_of("caption_2") is None
    numbered = {f"control_{n}": "abcd"[n % 4] + ".png" for n in reversed(range(12))}
    (case,) = found(jsonl(folder, {**T2I, **numbered}), folder)
    assert [path.stem for path in case.references] == list("abcdabcdabcd"), "by number, not by letters"


def test_names_that_are_also_words_are_pictures_only_where_they_hold_one(folder: Path) -> None:
    records = [
        {**T2I, "source": "laion", "image": "a.png"},
        {**T2I, "source": "https://flickr.com/1.jpg"},
        {"instruction": NIGHT, "input": "an old prompt", "output": "a new one", "reference": "[3]"},
        {**T2I, "reference_images": ["a.png"], "source": "IMG_1.jpg"},
        {**T2I, "image": "a.png", "score": 0.3, "file_name": "a.png", "thumbnail": "./a.png"},
    ]
    laion, flickr, words, edit, plain = found(jsonl(folder, *records), folder)
    assert (laion.task, laion.source, names(laion)) == ("t2i", "laion", ([], "a.png"))
    assert (flickr.task, flickr.source) == ("t2i", "https://flickr.com/1.jpg")
    assert (words.task, words.ignored) == ("t2i", ("input", "output", "reference"))
    assert (edit.source, names(edit)) == ("IMG_1.jpg", (["a.png"], None)), "no such picture: where it comes from"
    assert (plain.task, plain.ignored) == ("t2i", ("score", "thumbnail")), "the same picture once more"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"control": "a.png", "control_3": "b.png"}, "control_3 stands there without number 2"),
    ({"control_2": "b.png"}, "control_2 stands there without number 1"),
    ({"control_0": "a.png", "control_2": "b.png"}, "control_2 stands there without number 1"),
    ({"control_1": "a.png", "control1": "b.png"}, "control_1 and control1 have the same number"),
    ({"control": "a.png", "edit_image": "b.png"}, "control and edit_image disagree"),
    ({"reference_images": ["a.png"], "control": "b.png"}, "reference_images and control disagree"),
    ({"reference_images": ["a.png"], "source": "b.png"}, "reference_images and source disagree"),
    ({"target_image": "a.png", "image": "b.png"}, "target_image and image disagree"),
    ({"target_image": ["a.png", "b.png"]}, "2 targets; a case has one picture"),
    ({"source": "gone.png"}, "there is no picture"),
    ({"mask_image": "a.png"}, "'mask_image' holds a picture (a.png)"),
    ({"image": "a.png", "image_2": "b.png"}, "'image_2' holds a picture (b.png)"),
    ({"contrl_img": "a.png"}, "the nearest is 'control_image', for reference_images"),
    ({"pictures": ["a.png"]}, "'pictures' holds a picture"),
    ({"more": {"deep": [{"path": "gone.webp"}]}}, "'more' holds a picture (gone.webp)"),
    ({"depth": "data:image/png;base64," + "iVBORw0KGgo" * 9}, "characters of base64"),
    ({"reference_images": ["\udcff.png"]}, "half a character"),
]


@pytest.mark.parametrize(("record", "expected"), REFUSED)
def test_pictures_are_never_dropped_without_a_word(folder: Path, record: dict[str, Any], expected: str) -> None:
    (problem,) = problems(jsonl(folder, {**T2I, **record}), folder)
    assert expected in problem
    assert problem.startswith(f"{folder / 'cases.jsonl'}:1: ")


def test_columns_that_hold_pictures_without_a_role(folder: Path) -> None:
    (problem,) = problems(as_table(folder, {"prompt": NIGHT, "depth": "a.png|b.png"}), folder)
    assert "cases.csv:2: 'depth' holds a picture" in problem
    (problem,) = problems(as_parquet_of_bytes(folder, {"prompt": NIGHT, "depth": "a.png"}), folder)
    assert "cases.parquet:1: 'depth' holds a picture" in problem
    (case,) = found(as_parquet(folder, {"prompt": NIGHT, "depth": 0.5, "vector": [1.0], "raw": b"x"}), folder)
    assert sorted(case.ignored) == ["depth", "raw", "vector"]


# ---- tar


@pytest.mark.parametrize(
    ("members", "references", "target"),
    [
        ({"1.input.png": "red", "1.output.png": "blue"}, ["red"], "blue"),
        ({"1.control_2.png": "red", "1.control_1.png": "blue", "1.png": "white"}, ["blue", "red"], "white"),
        ({"1.source.png": "red", "1.source.2.png": "blue"}, ["red", "blue"], None),
    ],
)
def test_members_by_their_names(
    tmp_path: Path, members: dict[str, str], references: list[str], target: str | None
) -> None:
    held = {name: png(colour) for name, colour in members.items()}
    (case,) = found(packed(tmp_path / "edit.tar", {**held, "1.txt": b"make it blue"}), tmp_path)
    assert case.task == "edit"
    assert [path.read_bytes() for path in case.references] == [png(colour) for colour in references]
    assert (case.target.read_bytes() if case.target else None) == (png(target) if target else None)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"a.png": png("red"), "a.jpg": png("blue")}, "twice.tar:a: .png and .jpg are both the target"),
        ({"a.png": png("red"), "a.output.png": png("blue")}, ".png and .output.png are both the target"),
        ({"a.depth.png": png()}, "'depth' holds a picture (.depth.png)"),
        ({"a.source1.png": png(), "a.source3.png": png("red")}, "source3.png stands there without number 2"),
        ({"a.png": png(), "a.gif": b"GIF89a"}, "'a.gif': a picture of a kind that is not read in archives"),
        ({"a.source.png": png(), "a.b.png": png("red"), "a.json": b'{"control": "b.png"}'}, "which is no member"),
        ({"a.source.png": png(), "a.b.png": png("red"), "a.json": b'{"control": "a.b.png"}'}, "disagree"),
        ({"a.png": png(), "a.b.png": png("red"), "a.json": b'{"image": "a.b.png"}'}, "image and target_image disagree"),
    ],
)
def test_samples_with_pictures_too_many(tmp_path: Path, members: dict[str, bytes], expected: str) -> None:
    (problem,) = problems(packed(tmp_path / "twice.tar", {"a.txt": b"a fox", **members}), tmp_path)
    assert expected in problem


def test_a_member_may_not_stand_twice(tmp_path: Path) -> None:
    packed(tmp_path / "a.tar", {"a.txt": b"a", "a.png": png("red"), "./a.png": png("blue")})
    (problem,) = problems(tmp_path / "a.tar", tmp_path)
    assert "a.tar:a: .png stands there twice" in problem


def test_what_a_json_says_of_files_elsewhere_is_no_picture(tmp_path: Path) -> None:
    meta = {"url": "https://x.y/1.jpg", "original": "IMG_1.jpg", "key": "1"}
    held = {"1.png": png(), "1.txt": b"a", "1.json": json.dumps(meta).encode()}
    (case,) = found(packed(tmp_path / "a.tar", held), tmp_path)
    assert case.ignored == ("url", "original", "key")


# ---- folders


def test_folders_of_targets_and_of_what_they_start_from(tmp_path: Path) -> None:
    for name in ("target/x.png", "control/x.jpg", "sea/y.png", "sea/control_2/y.png", "sea/control_1/y.png"):
        write(tmp_path / "set" / name, png())
    for name in ("target/x.txt", "sea/y.txt"):
        write(tmp_path / "set" / name, NIGHT)
    for name in ("z.input.png", "z.output.png"):
        write(tmp_path / "set" / name, png())
    write(tmp_path / "set" / "z.txt", NIGHT)
    z, y, x = sorted(found(tmp_path / "set", tmp_path), key=lambda case: len(case.id))
    assert (x.id, x.category, names(x)) == ("target/x", "uncategorised", (["x.jpg"], "x.png"))
    assert [path.parent.name for path in y.references] == ["control_1", "control_2"]
    assert (y.id, y.category, y.task) == ("sea/y", "sea", "edit")
    assert names(z) == (["z.input.png"], "z.output.png")


def test_pictures_in_folders_that_have_no_role(tmp_path: Path) -> None:
    for name in ("x.png", "x.depth.png", "depth/x.png", "g.gif", "control/w.png", "a/target/v.png"):
        write(tmp_path / "set" / name, png())
    for name in ("x.txt", "g.txt", "w.txt", "target/w.txt"):
        write(tmp_path / "set" / name, name)
    told = problems(tmp_path / "set", tmp_path)
    for name in ("x.depth.png: 'depth' holds", "depth/x.png", "g.gif is a picture of a kind", "w.png", "v.png"):
        assert sum(name in problem for problem in told) == 1, (name, told)


# ---- what is told, and debris


def test_ignored_keys_are_counted_and_problems_kept_by_file(folder: Path) -> None:
    path = jsonl(folder, {**T2I, "score": 1}, {**T2I, "score": 2, "hash": "x"}, *[{}] * 30)
    report = check_sources([path])
    assert report.ignored == {"score": 2, "hash": 1}
    assert {file: len(told) for file, told in report.problems_of.items()} == {str(path): 30}


@pytest.mark.parametrize("kind", [2, 7, 11], ids=["text", "bytes", "float"])
def test_a_strange_orientation_is_named(folder: Path, kind: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = exif.tobytes()
    torn = whole.replace(b"\x01\x12\0\x03", b"\x01\x12\0" + bytes([kind]))
    assert torn != whole
    path = picture(folder / "odd.jpg", exif=torn)
    for read in (upright_size, open_picture):
        with pytest.raises(CaseError, match=r"odd\.jpg has the EXIF orientation .*, which is no number"):
            read(path, "c:1")
    (problem,) = [str(e) for e in entries(jsonl(folder, {**T2I, "control": "odd.jpg"}), thorough=True)]
    assert "EXIF orientation" in problem


def test_an_orientation_beyond_the_known_turns_nothing(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 9
    path = picture(folder / "nine.jpg", (40, 30), exif=exif)
    assert upright_size(path, "c:1") == (30, 40)
    assert open_picture(path, "c:1").size == (40, 30)


def test_names_that_are_not_utf8_or_too_long(folder: Path) -> None:
    odd = os.fsdecode(b"\xff")
    write(folder / "set" / f"{odd}.txt", "a")
    write(folder / "set" / f"{odd}.png", png())
    (problem,) = problems(folder / "set", folder)
    assert "\\udcff.txt:1: " in problem
    problem.encode()
    with pytest.raises(CaseError, match="the name is not UTF-8"):
        paths_of(str(folder / "set" / f"{odd}.txt"))
    (problem,) = problems(packed(folder / "n.tar", {f"{odd}.txt": b"a"}), folder)
    assert "half a character" in problem
    for name in ("n" * 300 + ".jsonl", "n" * 5000):
        with pytest.raises(CaseError, match="File name too long"):
            paths_of(str(folder / name))
    with pytest.raises(CaseError, match="File name too long"):
        convert(str(jsonl(folder, T2I)), folder / ("n" * 300 + ".jsonl"))


def test_debris_in_tables_and_lines(folder: Path) -> None:
    deep, many = "[" * 100_000, "9" * 5_000
    lines = [
        f'{{"prompt": "a", "x": {deep}}}', f'{{"prompt": "a", "seed": {many}}}', f'{{"prompt": "a", "x": {many}}}',
        f'{{"prompt": "a", "x": {"[" * 900}{"]" * 900}}}',
    ]  # fmt: skip
    assert len(problems(jsonl(folder, *lines), folder)) == 3
    table = f'prompt,control,seed\na\0b,,\na,"{deep[:90_000]}",\na,,{many}\n'
    assert len(problems(write(folder / "t.csv", table), folder)) == 3


def test_values_of_arrow_that_python_has_not(folder: Path) -> None:
    late = pyarrow.array([2**62, 0], pyarrow.timestamp("us"))
    pyarrow.parquet.write_table(pyarrow.table({"prompt": ["a", "b"], "category": late}), folder / "d.parquet")
    first, second = problems(folder / "d.parquet", folder)
    assert "d.parquet:1: a value cannot be read" in first
    assert "d.parquet:2: category is" in second


@pytest.mark.parametrize("text", ["!!bool maybe", "!!timestamp x", "!!python/object:os.x {}", "!x 1", "!!int ''"])
def test_tags_of_yaml_are_one_line(text: str) -> None:
    with pytest.raises(RecipeError, match="no YAML") as refused:
        load_yaml(f"a: {text}", "r.yaml")
    assert "\n" not in str(refused.value)
