"""A gallery may come from another machine. What its manifest names is opened, copied and sent to judges, so nothing
outside the gallery may be named, and a line that was edited is refused in one line of words."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fewstep.bench.gallery import Gallery, open_gallery
from fewstep.bench.metrics.measurements import read_metrics
from fewstep.bench.suites import open_suite
from fewstep.runtime.errors import FewstepError, GalleryError, SuiteError
from tests.bench.judged_gallery import gallery, judge_file, rated
from tests.bench.small_suites import plain
from tests.cli.command_line import fewstep
from tests.endpoint.fault_server import FaultServer, says


def manifest(folder: Path) -> Path:
    return folder / "manifest.jsonl"


def edited(folder: Path, line: int, **changes: Any) -> Path:
    """`folder` with some values of one row changed; None takes the key away."""
    lines = manifest(folder).read_text().splitlines()
    row = json.loads(lines[line]) | changes
    lines[line] = json.dumps({name: value for name, value in row.items() if value is not None})
    manifest(folder).write_text("\n".join(lines) + "\n")
    return folder


def outside(kind: str, folder: Path) -> str:
    """What leads out of `folder` to a picture beside it."""
    plain("red").save(folder.parent / "private.png")
    if kind == "absolute":
        return str(folder.parent / "private.png")
    if kind == "climbing":
        return "pictures/../../private.png"
    (folder / "pictures" / "link.png").symlink_to(folder.parent / "private.png")
    if kind == "link":
        return "pictures/link.png"
    (folder / "more").symlink_to(folder.parent)
    return "more/private.png"


@pytest.mark.parametrize("kind", ["absolute", "climbing", "link", "linked folder"])
def test_a_picture_outside_of_the_gallery_is_never_sent(kind: str, tmp_path: Path) -> None:
    folder = gallery(tmp_path / "g", cases=3)
    edited(folder, 1, file=outside(kind, folder))
    with FaultServer(says(rated())) as server:
        for words in (
            ("judge", "run", folder, "--judge", judge_file(tmp_path, server)),
            ("bench", "measure", folder),
            ("bench", "report", folder, "--to", tmp_path / "report"),
        ):
            result = fewstep(*words)
            assert result.exit_code == 2, result.output
            assert "manifest.jsonl:2" in result.output
            assert "gallery" in result.output
    assert not server.calls
    assert not (tmp_path / "report").exists()


def test_a_gallery_behind_a_link_is_a_gallery(tmp_path: Path) -> None:
    folder = gallery(tmp_path / "g", cases=2)
    (tmp_path / "link").symlink_to(folder)
    assert len(open_gallery(tmp_path / "link")) == 2


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"case": 3}, "case is 3, no text"),
        ({"case": None}, "lacks case"),
        ({"seed": "7"}, "seed is '7'"),
        ({"seed": None}, "lacks seed"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"file": None}, "lacks file"),
        ({"file": 5}, "file is 5, no text"),
        ({"file": ["a.png"]}, "file is"),
        ({"file": ""}, "does not lie in the gallery"),
        ({"file": "x" * 300 + ".png"}, "name"),
        ({"file": "pictures/\0.png"}, "no picture's name"),
        ({"status": "lost"}, "neither drawn nor failed"),
        ({"status": 1}, "status is 1"),
        ({"prompt": {"a": 1}}, "prompt is"),
        ({"category": 4}, "category is 4"),
    ],
)
def test_an_edited_row_is_refused_by_file_and_line(changes: dict[str, Any], word: str, tmp_path: Path) -> None:
    folder = edited(gallery(tmp_path / "g", cases=2), 1, **changes)
    with pytest.raises(GalleryError) as refused:
        open_gallery(folder)
    assert "manifest.jsonl:2" in str(refused.value)
    assert word in str(refused.value)


def test_a_row_that_is_no_record_is_refused_and_one_that_a_kill_cut_off_is_drawn_again(tmp_path: Path) -> None:
    made = Gallery(tmp_path)
    made.add("a", 1, plain("red"), {})
    with manifest(tmp_path).open("a") as file:
        file.write('{"case": "b", "se')
    assert [row["case"] for row in Gallery(tmp_path)] == ["a"]
    assert Gallery(tmp_path).cut_off == [f"{manifest(tmp_path)}:2"]
    Gallery(tmp_path).add("b", 1, plain("blue"), {})  # the same command, again: the half line stays, marked
    assert [row["case"] for row in Gallery(tmp_path)] == ["a", "b"]
    lines = manifest(tmp_path).read_bytes().split(b"\n")
    manifest(tmp_path).write_bytes(b"\n".join([lines[0][:20], *lines[1:]]))
    with pytest.raises(GalleryError, match=r"manifest\.jsonl:1: the line is no record"):
        Gallery(tmp_path)


def test_a_report_says_that_a_line_was_cut_off(tmp_path: Path) -> None:
    folder = gallery(tmp_path / "g", cases=3)
    os.truncate(manifest(folder), manifest(folder).stat().st_size - 30)
    result = fewstep("bench", "report", folder, "--to", tmp_path / "report")
    assert result.exit_code == 0, result.output
    assert "manifest.jsonl:3 was cut off" in (tmp_path / "report" / "index.html").read_text()


@pytest.mark.parametrize(
    ("heading", "word"),
    [
        ({"system": None}, "lacks system"),
        ({"suite": None}, "lacks suite"),
        ({"suite": "mini-t2i"}, "suite is"),
        ({"model": [1]}, "model is"),
        ({"origin": 2}, "origin is"),
    ],
)
def test_an_edited_heading_is_refused(heading: dict[str, Any], word: str, tmp_path: Path) -> None:
    folder = gallery(tmp_path / "g", cases=1)
    told = json.loads((folder / "gallery.json").read_text()) | heading
    (folder / "gallery.json").write_text(json.dumps({name: v for name, v in told.items() if v is not None}))
    for words in (
        ("bench", "rank", folder, folder),
        ("bench", "measure", folder),
        ("bench", "compare", folder, folder),
    ):
        result = fewstep(*words)
        assert result.exit_code in (2, 3), result.output
        assert word in result.output
    (folder / "gallery.json").write_text("[" * 3_000)
    with pytest.raises(GalleryError, match="no JSON"):
        open_gallery(folder)


def test_a_picture_that_was_exchanged_is_told_by_all(tmp_path: Path) -> None:
    """Its pixels are not those it is named after."""
    folder = gallery(tmp_path / "g", cases=2)
    path = Gallery(folder).path("c00001", next(row["seed"] for row in Gallery(folder) if row["case"] == "c00001"))
    os.unlink(path)
    plain("green").save(path)
    for words in (
        ("judge", "run", folder, "--judge", judge_file(tmp_path, "http://127.0.0.1:9/v1")),
        ("bench", "report", folder, "--to", tmp_path / "report"),
    ):
        result = fewstep(*words)
        assert result.exit_code == 2, result.output
        assert f"{path.name} is not the picture that it is named after" in " ".join(result.output.split())
    measured = fewstep("bench", "measure", folder, "--metrics", "sanity,flat_noise", "--workers", "1")
    assert "named after" in measured.output
    assert [line.values["unreadable"] for line in read_metrics(folder)["sanity"]] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"values": {"ok": "yes"}}, "values is"),
        ({"values": [1]}, "values is"),
        ({"values": {}}, "neither"),
        ({"seed": "1"}, "seed is '1'"),
        ({"case": None}, "case is null"),
    ],
)
def test_an_edited_measurement_is_refused_by_file_and_line(changes: dict[str, Any], word: str, tmp_path: Path) -> None:
    folder = gallery(tmp_path / "g", cases=2)
    fewstep("bench", "measure", folder, "--metrics", "sanity", "--workers", "1")
    path = folder / "metrics" / "sanity.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], json.dumps(json.loads(lines[1]) | changes)]) + "\n")
    with pytest.raises(GalleryError) as refused:
        read_metrics(folder)
    assert "sanity.jsonl:2" in str(refused.value)
    assert word in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"reference_images": "a.png"}, "reference_images is"),
        ({"reference_images": ["../../private.png"]}, "does not lie in the suite"),
        ({"target_image": "/etc/private.png"}, "does not lie in the suite"),
        ({"expect": [1]}, "expect is"),
        ({"expect": {"region": 3}}, "region is 3"),
    ],
)
def test_a_suite_names_nothing_outside_of_its_folder(changes: dict[str, Any], word: str, tmp_path: Path) -> None:
    gallery(tmp_path / "g", cases=2)
    path = tmp_path / "suite-t2i-2" / "cases.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], json.dumps(json.loads(lines[1]) | changes)]) + "\n")
    with pytest.raises(FewstepError) as refused:
        open_suite(path.parent)
    assert isinstance(refused.value, SuiteError)
    assert "cases.jsonl:2" in str(refused.value)
    assert word in str(refused.value)
