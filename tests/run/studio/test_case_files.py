"""Data: archives as they are, patterns of shards, and runs that were copied with or without their cases."""

import io
import itertools
import json
import random
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from fewstep.data.cases import Case
from fewstep.run.studio import archive_cases
from fewstep.run.studio.app import studio_app
from fewstep.run.studio.jobs import Jobs
from fewstep.run.studio.places import RunPlaces
from fewstep.run.studio.screen_table import SCREENS
from fewstep.run.studio.studio import Studio
from tests.browser import Browser
from tests.data.made_files import packed, png
from tests.run.studio.conftest import Served
from tests.run.studio.small_runs import picture, small_run


def edits(count: int) -> dict[str, bytes]:
    """Members of a WebDataset of edits, all of other pictures."""
    found: dict[str, bytes] = {}
    for i in range(count):
        found |= {f"n/{i:03d}.txt": f"make it {i}".encode(), f"n/{i:03d}.source.png": png(f"rgb({i}, 9, 9)", (64, 64))}
    return found


@pytest.fixture
def http(tmp_path: Path) -> Iterator[TestClient]:
    """A studio over `runs` and `cases`."""
    roots = [tmp_path / "runs", tmp_path / "cases"]
    for root in roots:
        root.mkdir()
    held = Studio(RunPlaces(roots), Jobs(tmp_path / "jobs"))
    with TestClient(studio_app(held, SCREENS, host="testserver")) as client:
        yield client


def answer(http: TestClient, what: str, **more: Any) -> Any:
    return http.get(f"/api/data/{what}", params={"run": "runs/one", **more}).json()


def test_an_archive_is_read_as_it_is(http: TestClient, tmp_path: Path, cache: Path) -> None:
    """Members that lead out of it, or are links, are lines that cannot be used; nothing is written under a name."""
    shard = packed(
        tmp_path / "cases" / "edits.tar",
        edits(3) | {"../../evil.png": png(), "/tmp/evil.png": png(), "n/003.txt": b"a boat", "n/003.source.png": b"no"},
    )
    small_run(tmp_path / "runs" / "one", f"data.edit.0.source={shard}", trained=2)
    edit = next(i for i, each in enumerate(answer(http, "files")["files"]) if each["task"] == "edit")
    told = answer(http, "summary", file=edit)
    assert (told["cases"], told["part"], told["bad_count"]) == (3, "", 3)
    assert any("leads out of the archive" in line for line in told["bad"])
    shown = answer(http, "cases", file=edit)["cases"]
    assert next((each["prompt"], each["pictures"], each["hidden"]) for each in shown) == ("make it 0", ["source"], 0)
    asked = {"run": "runs/one", "file": edit, "case": 2, "which": "source"}
    seen = http.get("/api/data/picture", params=asked)
    assert (seen.status_code, seen.content) == (200, png("rgb(2, 9, 9)", (64, 64)))
    written = [path for path in archive_cases.archives_folder().rglob("*") if path.is_file()]
    assert {path.name.count(".") for path in written} == {1}
    assert all(len(path.stem) == 32 for path in written), "names follow from bytes"
    assert not list(tmp_path.rglob("evil*"))


def test_what_is_read_of_an_archive_is_bounded(
    http: TestClient, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = packed(tmp_path / "cases" / "more.tar", edits(6))
    small_run(tmp_path / "runs" / "one", f"data.edit.0.source={shard}", trained=2)
    for name, value, count, words in (
        ("MOST_CASES", 4, 4, "the first 4 cases"),
        ("MOST_BYTES", 100, 1, "MiB of pictures"),
        ("MOST_SECONDS", 0.0, 0, "0 seconds"),
    ):
        with monkeypatch.context() as less:
            less.setattr(archive_cases, name, value)
            shard.touch()
            told = answer(http, "summary", file=1)
        assert (told["cases"], words in told["part"]) == (count, True), name


@pytest.mark.parametrize("member", ["wide.source.png", "notes.bin"])
def test_the_bound_of_time_holds_within_one_member(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, member: str
) -> None:
    """Compressed, so that passing it over means reading it."""
    shard = tmp_path / "large.tar.gz"
    with tarfile.open(shard, "w:gz", compresslevel=1) as archive:
        for name, data in (
            ("a.txt", b"a boat"),
            ("b.txt", b"a cup"),
            (member, random.Random(0).randbytes(2**20)),
            ("z.txt", b"a cat"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    clock = itertools.count()
    monkeypatch.setattr(archive_cases, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))  # a second a look
    monkeypatch.setattr(archive_cases, "MOST_SECONDS", 20.0)
    *cases, told = archive_cases.first_entries(shard)
    assert [case.prompt for case in cases if isinstance(case, Case)] == ["a boat"]
    assert "reading ends after 20 seconds" in str(told)
    monkeypatch.setattr(archive_cases, "MOST_SECONDS", 1e9)
    whole = [each.prompt for each in archive_cases.first_entries(shard) if isinstance(each, Case)]
    assert whole == ["a boat", "a cup", "a cat"]


def test_old_archives_leave_the_cache(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_cases, "MOST_ARCHIVES", 2)
    for i in range(4):
        list(archive_cases.first_entries(packed(tmp_path / f"{i}.tar", edits(1))))
    assert len(list(archive_cases.archives_folder().iterdir())) == 2


def test_shards_of_a_pattern_are_listed(http: TestClient, tmp_path: Path) -> None:
    for i in range(3):
        packed(tmp_path / "cases" / f"s{i}.tar", edits(i + 1))
    sources = [f"data.edit.0.source={tmp_path / 'cases' / 's*.tar'}", "data.t2i.0.source=/etc/*.tar"]
    small_run(tmp_path / "runs" / "one", *sources, trained=2)
    files = answer(http, "files")["files"]
    assert [Path(each["label"]).name for each in files] == ["*.tar", "s0.tar", "s1.tar", "s2.tar"]
    assert files[0]["why"], "a pattern elsewhere is not followed"
    assert answer(http, "summary", file=3)["cases"] == 3


def test_a_copied_run_finds_its_cases_beside_it(http: TestClient, tmp_path: Path) -> None:
    """By the relative name, or by the last folder of an absolute one; never outside the given folders."""
    home = tmp_path / "home"
    picture(home / "cases" / "photo.png", 90)
    line = {"id": "a", "task": "edit", "prompt": "make it red", "references": ["photo.png"]}
    (home / "cases" / "edits.jsonl").write_text(json.dumps(line) + "\n")
    sources = [f"data.edit.0.source={home / 'cases' / 'edits.jsonl'}", "data.t2i.0.source=cases/none.jsonl"]
    small_run(home / "one", *sources, trained=2)
    shutil.copytree(home / "one", tmp_path / "runs" / "one")
    shutil.copytree(home / "cases", tmp_path / "runs" / "cases")
    shutil.rmtree(home)
    first, second = answer(http, "files")["files"]
    assert "they are not there" in first["why"]
    assert (second["why"], "lies beside the run" in second["note"]) == ("", True)
    assert answer(http, "cases", file=1)["cases"][0]["pictures"] == ["source"]


def test_the_page_says_how_much_was_read(
    browser: Browser, served: Served, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_cases, "MOST_CASES", 2)
    shard = packed(served.root / "shard.tar", edits(5))
    small_run(served.root / "archived", f"data.edit.0.source={shard}", trained=2)
    served.studio.places.look_again()
    browser.open(f"{served.address}/#/data?run=archived")
    browser.until("document.querySelectorAll('.data-case').length === 2")
    assert "This is the first 2 cases of the archive" in browser.js("document.querySelector('main').textContent")
    browser.until("[...document.querySelectorAll('.data-case img')].every((i) => i.naturalWidth)")
