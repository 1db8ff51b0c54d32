"""A gallery: pictures by content, lines that a kill cannot spoil, and refusals to mix."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewstep.bench.gallery import (
    Gallery,
    begin_gallery,
    open_gallery,
    read_heading,
)
from fewstep.bench.pixels import pixel_hash, rgb_or_rgba
from fewstep.bench.suites import copy_into_gallery, suite_of
from fewstep.runtime.errors import GalleryError, SuiteError
from tests.bench.small_suites import edits, plain, prompts, suite_of_drafts

SUITE = {"name": "small", "version": "1", "hash": "abc"}


def test_a_picture_is_named_by_its_pixels_and_read_back(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    path = gallery.add("a", 1, noise, {"k": 0})
    assert path.name == f"{pixel_hash(noise)}.png"
    assert gallery.add("b", 2, noise, {"k": 0}) == path  # the same pixels lie once
    assert len(list((tmp_path / "pictures").iterdir())) == 1
    again = Gallery(tmp_path)
    assert len(again) == 2
    assert ("a", 1) in again
    assert np.array_equal(np.asarray(again.picture("b", 2)), np.asarray(noise))


def test_opaque_alpha_is_dropped_and_other_alpha_stays() -> None:
    opaque = plain().convert("RGBA")
    assert pixel_hash(opaque) == pixel_hash(plain())
    clear = opaque.copy()
    clear.putpixel((0, 0), (0, 0, 0, 10))
    assert rgb_or_rgba(clear).mode == "RGBA"
    assert pixel_hash(clear) != pixel_hash(plain())


def test_a_failure_is_a_row_until_there_is_a_picture(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    gallery.fail("a", 1, "out of memory", {"k": 0})
    assert ("a", 1) not in gallery
    assert [row["why"] for row in Gallery(tmp_path).failures] == ["out of memory"]
    gallery.add("a", 1, plain(), {"k": 0})
    gallery.fail("a", 1, "later, by another process", {"k": 0})
    again = Gallery(tmp_path)
    assert again.failures == []
    assert ("a", 1) in again


def test_a_torn_line_and_a_lost_picture_are_no_pictures(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    gallery.add("a", 1, plain("red"), {})
    lost = gallery.add("b", 2, plain("blue"), {})
    with (tmp_path / "manifest.jsonl").open("a") as file:
        file.write('{"case": "c", "se')
    lost.unlink()
    again = Gallery(tmp_path)
    assert [row["case"] for row in again] == ["a"]
    again.add("c", 3, plain("green"), {})
    assert [row["case"] for row in Gallery(tmp_path)] == ["a", "c"]


def test_manifests_of_ranks_are_read_together(tmp_path: Path) -> None:
    Gallery(tmp_path, rank=0).add("a", 1, plain("red"), {})
    Gallery(tmp_path, rank=1).add("b", 2, plain("blue"), {})
    assert sorted(path.name for path in tmp_path.glob("*.jsonl")) == ["manifest.rank0.jsonl", "manifest.rank1.jsonl"]
    assert {row["case"] for row in Gallery(tmp_path)} == {"a", "b"}


def test_a_torn_picture_is_named(tmp_path: Path) -> None:
    path = Gallery(tmp_path).add("a", 1, plain(), {})
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(GalleryError, match=r"a, seed 1.*Remove the file"):
        Gallery(tmp_path).picture("a", 1)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"suite": SUITE | {"hash": "def"}}, "another suite.*def"),
        ({"model": {"fingerprint": "y"}}, "another model.*fingerprint x, not fingerprint y"),
        ({"system": "other"}, "another system"),
        ({"origin": "adopted"}, "another origin"),
    ],
)
def test_a_gallery_takes_no_other_pictures(change: dict, word: str, tmp_path: Path) -> None:
    heading = {"system": "mine", "suite": SUITE, "model": {"fingerprint": "x"}, "origin": "generated"}
    begin_gallery(tmp_path / "g", **heading)
    begin_gallery(tmp_path / "g", **heading)
    before = (tmp_path / "g" / "gallery.json").read_bytes()
    with pytest.raises(GalleryError, match=word):
        begin_gallery(tmp_path / "g", **(heading | change))
    assert (tmp_path / "g" / "gallery.json").read_bytes() == before


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(GalleryError, match=r"thesis\.tex"):
        begin_gallery(tmp_path, "mine", SUITE, {}, "generated")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(GalleryError, match="no gallery"):
        open_gallery(tmp_path)


def test_a_heading_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gallery.json").write_text("{")
    with pytest.raises(GalleryError, match="no JSON"):
        read_heading(tmp_path)
    (tmp_path / "gallery.json").write_text(json.dumps({"format": 9}))
    with pytest.raises(GalleryError, match="format 1"):
        read_heading(tmp_path)


def test_a_gallery_carries_its_suite(tmp_path: Path) -> None:
    suite = suite_of_drafts(tmp_path / "s", edits(), task="edit")
    begin_gallery(tmp_path / "g", "mine", suite.identity, {}, "generated")
    copy_into_gallery(suite, tmp_path / "g")
    copy_into_gallery(suite, tmp_path / "g")
    (tmp_path / "g").rename(tmp_path / "moved")
    for path in sorted(suite.folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    assert suite_of(tmp_path / "moved").hash == suite.hash


def test_a_gallery_of_another_hash_is_refused(tmp_path: Path) -> None:
    suite, other = (suite_of_drafts(tmp_path / str(n), prompts(n)) for n in (2, 3))
    begin_gallery(tmp_path / "g", "mine", suite.identity, {}, "generated")
    copy_into_gallery(other, tmp_path / "g")
    with pytest.raises(SuiteError, match=f"{suite.hash}.*{other.hash}"):
        suite_of(tmp_path / "g")
