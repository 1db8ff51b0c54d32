"""Every format that people bring, as it should be and as it should not: read, and refused with its place."""

import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewstep.data import case_formats
from fewstep.data.formats import parquet as parquet_format
from fewstep.data.formats.format import ArchiveFormat
from fewstep.data.formats.tar import tar
from fewstep.data.sources import (
    entries_of,
    read_source,
)
from fewstep.runtime.errors import CaseError, EnvironmentRefused
from tests.data.made_files import SAMPLES, found, packed, png, problems, write

# ---- csv


def test_csv(tmp_path: Path) -> None:
    write(tmp_path / "a.png", png())
    write(tmp_path / "b.png", png("red"))
    text = (
        "caption,category,source_image,height,width\r\n"
        '"a boat, ""Öl""\nbelow",sea,,64,96\r\n'
        "\r\n"
        "make it blue,object,a.png,,\r\n"
        "join them,object,a.png|b.png,,\r\n"
        'again,object,"[""b.png"", ""a.png""]",,\r\n'
    )
    boat, blue, join, again = found(write(tmp_path / "cases.csv", text), tmp_path)
    assert (boat.prompt, boat.task, boat.size((1, 1))) == ('a boat, "Öl"\nbelow', "t2i", (64, 96))
    assert (blue.id, blue.task, blue.where) == ("cases-5", "edit", f"{tmp_path}/cases.csv:5")
    assert [path.name for path in join.references] == ["a.png", "b.png"]
    assert [path.name for path in again.references] == ["b.png", "a.png"]


@pytest.mark.parametrize(
    ("name", "text"), [("t.tsv", "prompt\tcategory\na, b\tx\n"), ("s.csv", "prompt;category\na, b;x\n")]
)
def test_tables_with_other_separators(tmp_path: Path, name: str, text: str) -> None:
    (case,) = found(write(tmp_path / name, text), tmp_path)
    assert (case.prompt, case.category) == ("a, b", "x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", r"cases\.csv:1: no column of prompts among none"),
        ("id,words\n1,a\n", r"cases\.csv:1: no column of prompts among id, words; name it 'prompt'"),
        ("prompt,refrence_images\na,b.png\n", r"cases\.csv:1: key 'refrence_images' is not known"),
        ("prompt,seed,seed\na,1,2\n", "column 'seed' stands there twice"),
        ("prompt,seed\na\n", r"cases\.csv:2: 1 cells under 2 columns: torn"),
        ("prompt,seed\na,b,3\n", r"cases\.csv:2: 3 cells under 2 columns"),
        ("prompt,seed\na,half\n", r"cases\.csv:2: seed is 'half'; give a whole number"),
        ('prompt,seed\na,1\n"torn,2\n', r"cases\.csv:3: torn or no CSV \(unexpected end of data\)"),
        ('prompt,control\na,"[x"\n', r"cases\.csv:2: control holds \[x, no JSON list"),
        (b"prompt\na\n" + "Öl\n".encode("latin-1"), r"cases\.csv:3: byte 1 of the line \(0xd6\) is not UTF-8"),
        ("prompt\n".encode("utf-16"), "is UTF-16"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, text: str | bytes, expected: str) -> None:
    with pytest.raises(CaseError, match=expected):
        read_source(str(write(tmp_path / "cases.csv", text)), "t2i", tmp_path)


# ---- folders


def test_a_folder_of_captions_and_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for name in (
        "x.png",
        "portrait/y.jpg",
        "z.source.png",
        "z.png",
        "w_source_2.png",
        "w_source_1.png",
        "my_source.png",
    ):
        write(folder / name, png())
    for name in ("x", "portrait/y", "z", "w", "my_source", "only"):
        write(folder / f"{name}.txt", f"about {name}\n")
    write(folder / ".hidden.png", "")
    write(folder / "notes.md", "")
    cases = {case.id: case for case in found(folder, tmp_path)}
    assert set(cases) == {"x", "portrait/y", "z", "w", "my_source", "only"}
    assert (cases["x"].target, cases["x"].references) == (folder / "x.png", ())
    assert cases["portrait/y"].category == "portrait"
    assert (cases["z"].task, cases["z"].references) == ("edit", (folder / "z.source.png",))
    assert [path.name for path in cases["w"].references] == ["w_source_1.png", "w_source_2.png"]
    assert cases["my_source"].task == "t2i", "a caption of its own name makes it a target"
    assert (cases["only"].target, cases["only"].where) == (None, f"{folder}/only.txt:1")


def test_pictures_and_captions_that_belong_to_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for name in ("alone.png", "x.png", "x.webp", "strip.png"):
        write(folder / name, png(size=(1, 400) if name == "strip.png" else (40, 30)))
    write(folder / "x.txt", "x")
    write(folder / "empty.txt", " ")
    write(folder / "strip.txt", "x")
    write(folder / "latin.txt", "Öl".encode("latin-1"))
    found = problems(folder, tmp_path)
    for words in (
        "alone.png: no caption alone.txt beside it",
        "x.txt:1: x.png and x.webp both stand beside it",
        "empty.txt:1: the prompt is empty",
        "strip.txt:1: ",
        "latin.txt:1: byte 1 of the line (0xd6) is not UTF-8",
    ):
        assert sum(words in problem for problem in found) == 1, words
    assert len(found) == 5
    (tmp_path / "none").mkdir()
    with pytest.raises(CaseError, match="no caption in this folder"):
        read_source(str(tmp_path / "none"), "t2i", tmp_path)


def test_an_image_folder_with_metadata(tmp_path: Path) -> None:
    write(tmp_path / "set" / "x.png", png())
    write(tmp_path / "set" / "metadata.csv", "file_name,text\nx.png,a boat\n")
    (case,) = found(tmp_path / "set", tmp_path)
    assert (case.prompt, case.target) == ("a boat", tmp_path / "set" / "x.png")


# ---- parquet


def table(path: Path, columns: dict[str, list[Any]]) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def test_parquet_with_paths_bytes_and_image_structs(tmp_path: Path) -> None:
    write(tmp_path / "a.png", png())
    columns: dict[str, list[Any]] = {
        "instruction": ["make it blue", "join", "a boat"],
        "source_images": [[{"bytes": png("red"), "path": "r.png"}], [{"bytes": png("red"), "path": None}] * 2, None],
        "edited_image": [{"bytes": png("blue"), "path": None}, {"bytes": None, "path": "a.png"}, None],
        "seed": [1.0, float("nan"), None],
        "embedding": [b"x", b"y", b"z"],
    }
    blue, join, boat = found(table(tmp_path / "c.parquet", columns), tmp_path)
    assert (blue.task, blue.seed, blue.where) == ("edit", 1, f"{tmp_path}/c.parquet:1")
    assert blue.references[0].read_bytes() == png("red")
    assert join.references == blue.references * 2, "stored once"
    assert (join.target, join.seed) == (tmp_path / "a.png", None)
    assert (boat.task, boat.references, boat.target) == ("t2i", (), None)
    assert all(path.is_relative_to(tmp_path / "unpacked") for path in blue.references)


def test_parquet_that_is_refused(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"prompt": ["a", "b", ""], "image": [png(), b"GIF89a", png(size=(1, 40_000))]}
    found = problems(table(tmp_path / "c.parquet", columns), tmp_path)
    assert f"{tmp_path}/c.parquet:2: holds bytes that are no picture" in found[0]
    assert f"{tmp_path}/c.parquet:3: the prompt is empty" in found[1]
    with pytest.raises(CaseError, match="no column of prompts among x"):
        read_source(str(table(tmp_path / "d.parquet", {"x": [1]})), "t2i", tmp_path)
    whole = (tmp_path / "c.parquet").read_bytes()
    write(tmp_path / "torn.parquet", whole[: len(whole) // 2])
    with pytest.raises(CaseError, match=r"torn\.parquet: cannot be read as Parquet"):
        read_source(str(tmp_path / "torn.parquet"), "t2i", tmp_path)


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(tmp_path / "c.parquet", {"prompt": ["a"]})
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(EnvironmentRefused, match=r"pip install 'fewstep\[data\]'"):
        read_source(str(path), "t2i", tmp_path)
    assert parquet_format.ROWS > 0


# ---- tar


@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz", "s.tgz"])
def test_webdataset(tmp_path: Path, name: str) -> None:
    boat, join = found(packed(tmp_path / name, SAMPLES), tmp_path)
    assert (boat.id, boat.prompt, boat.task, boat.where) == ("n/001", "a boat", "t2i", f"{tmp_path}/{name}:n/001")
    assert boat.target is not None
    assert boat.target.read_bytes() == png()
    assert (join.category, join.prompt) == ("object", "join")
    assert [path.read_bytes() for path in join.references] == [png("red"), png("blue")]
    assert join.target is not None
    assert join.target.read_bytes() == png("white")


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"../x.png": png(), "../x.txt": b"a"}, "leads out of the archive's folder"),
        ({"/etc/x.png": png(), "/etc/x.txt": b"a"}, "leads out of the archive's folder"),
        ({"x.txt": b"a", "x.json": b'{"control": "/etc/passwd"}'}, "control names '/etc/passwd', which is no member"),
        ({"x.txt": b"a", "x.json": b'{"control": "../y.png"}'}, "which is no member of this sample"),
        ({"x.txt": b"a", "x.json": b'{"prompt": '}, "torn or no JSON"),
        ({"x.txt": "Öl".encode("latin-1")}, r"x\.txt: not UTF-8 at byte 1"),
        ({"x.txt": b"a", "x.caption": b"b"}, "text and caption disagree"),
        ({"x.txt": b"a", "x.png": b"no picture"}, r"s\.tar:x\.png: holds bytes that are no picture"),
        ({"x.txt": b"a", "x.png": png(size=(1, 40_000))}, "sides may differ 16-fold"),
        ({"x.png": png()}, "no prompt"),
        ({"x.txt": b"a" * (2**20 + 1)}, "bytes, more than"),
        ({"x.txt": b"a", "y.txt": b"b", "x.png": png()}, r"s\.tar:x: no prompt"),
    ],
)
def test_members_that_are_refused(tmp_path: Path, members: dict[str, bytes], expected: str) -> None:
    with pytest.raises(CaseError, match=expected):
        read_source(str(packed(tmp_path / "s.tar", members)), "t2i", tmp_path / "cache")
    assert not (tmp_path / "x.png").exists()
    assert not (tmp_path / "cache" / "x.png").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_no_files(tmp_path: Path, kind: bytes) -> None:
    def change(info: tarfile.TarInfo) -> None:
        if info.name == "x.png":
            info.type, info.linkname, info.size = kind, "/etc/passwd", 0

    path = packed(tmp_path / "s.tar", {"x.txt": b"a", "x.png": b""}, change)
    with pytest.raises(CaseError, match="a link or a device, not a file"):
        read_source(str(path), "t2i", tmp_path)


@given(st.integers(0, 2**30), st.sampled_from(["s.tar", "s.tar.gz"]))
def test_a_torn_tar_is_never_taken_for_a_whole_one(
    tmp_path_factory: pytest.TempPathFactory, at: int, name: str
) -> None:
    folder = tmp_path_factory.mktemp("torn")
    whole = packed(folder / name, {f"{n}.txt": b"a boat" for n in range(3)}).read_bytes()
    path = write(folder / name, whole[: at % len(whole)])
    found: list[Any] = []
    with suppress(CaseError):
        found = list(tar(path, folder, False))
    assert len(found) in (0, 3), "all or none; three where only the marks behind the last sample were cut off"


# ---- several files, caching


def test_a_pattern_names_several_files(tmp_path: Path) -> None:
    for n in range(3):
        packed(tmp_path / f"s-{n}.tar", {f"{n}.txt": b"a", f"{n}.png": png()})
    ids = [case.id for case in read_source(f"{tmp_path}/s-*.tar", "t2i", tmp_path / "cache")]
    assert ids == ["s-0/0", "s-1/1", "s-2/2"]
    with pytest.raises(CaseError, match="no file fits this pattern"):
        read_source(f"{tmp_path}/t-*.tar", "t2i", tmp_path)
    packed(tmp_path / "s-3.tar", {"0.txt": b"a", "1.json": b'{"id": "0", "prompt": "b"}'})
    with pytest.raises(CaseError, match="id '0' was used at"):
        read_source(f"{tmp_path}/s-*.tar", "t2i", tmp_path / "cache")


def test_two_captions_that_differ_in_blanks_alone_agree(tmp_path: Path) -> None:
    """As img2dataset writes them: the caption as .txt, and once more in the .json."""
    packed(tmp_path / "a.tar", {"0.txt": b"a cat ", "0.json": b'{"caption": "a cat "}'})
    assert [case.prompt for case in found(tmp_path / "a.tar", tmp_path)] == ["a cat"]


def test_a_number_beyond_all_bounds_is_a_bad_line(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", '{"prompt": "a cat", "seed": ' + "9" * 400 + "}\n")
    assert "a.jsonl:1: seed is 999" in problems(file, tmp_path)[0]


def test_files_that_all_count_from_the_beginning_stay_distinct(tmp_path: Path) -> None:
    """Shards by one program have the same names of lines and members; names that a line states must differ."""
    for folder in ("a", "b"):
        write(tmp_path / folder / "cases.jsonl", '{"prompt": "a cat"}\n{"prompt": "a dog", "id": "12' + folder + '"}\n')
        packed(tmp_path / folder / "0.tar", {"0000.txt": b"a boat"})
    lines = [case.id for case in read_source(f"{tmp_path}/*/cases.jsonl", "t2i", tmp_path / "cache")]
    assert lines == ["a/cases/1", "12a", "b/cases/1", "12b"]
    for _ in range(2):  # unpacked, and from what was unpacked
        members = [case.id for case in read_source(f"{tmp_path}/*/0.tar", "t2i", tmp_path / "cache")]
        assert members == ["a/0/0000", "b/0/0000"]
    assert not [e for e in entries_of(f"{tmp_path}/*/0.tar", tmp_path / "x") if isinstance(e, CaseError)]
    for folder in ("a", "b"):
        write(tmp_path / folder / "stated.jsonl", '{"prompt": "a cat", "id": "one"}\n')
    with pytest.raises(CaseError, match="id 'one' was used at"):
        read_source(f"{tmp_path}/*/stated.jsonl", "t2i", tmp_path / "cache")


def test_an_archive_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path / "s.tar", SAMPLES)
    opened: list[Path] = []
    counted = ArchiveFormat(lambda *given: opened.append(given[0]) or tar(*given))  # type: ignore[func-returns-value]
    monkeypatch.setitem(case_formats.OWN, "tar", counted)
    first = read_source(str(path), "t2i", tmp_path / "cache")
    assert read_source(str(path), "t2i", tmp_path / "cache") == first
    assert len(opened) == 1
    packed(path, {**SAMPLES, "n/003.txt": b"new"})
    assert len(read_source(str(path), "t2i", tmp_path / "cache")) == 2
    assert len(opened) == 2
