"""Pictures made elsewhere: matched by name, checked whole, and nothing written where something is wrong."""

from pathlib import Path

import pytest

from fewstep.bench.adopt import adopt, expected_names
from fewstep.bench.gallery import open_gallery
from fewstep.bench.suite import Suite
from fewstep.bench.suites import suite_of
from fewstep.runtime.errors import GalleryError
from tests.bench.small_suites import plain, prompts, suite_of_drafts
from tests.cli.command_line import fewstep


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return suite_of_drafts(tmp_path / "suite", prompts(3), seeds=2)


@pytest.fixture
def folder(suite: Suite, tmp_path: Path) -> Path:
    made = tmp_path / "made"
    made.mkdir()
    for number, name in enumerate(expected_names(suite, None)):
        plain((40 * number, 80, 80)).save(made / name)
    return made


def test_a_whole_folder_becomes_a_gallery(suite: Suite, folder: Path, tmp_path: Path) -> None:
    adopt(folder, suite, tmp_path / "g", system="theirs")
    gallery = open_gallery(tmp_path / "g")
    assert len(gallery) == 6
    assert gallery.heading["origin"] == "adopted"
    assert gallery.heading["system"] == "theirs"
    question = suite.questions[1]
    row = gallery.row(question.case.id, question.seeds[1])
    assert (row["k"], row["prompt"], row["category"], row["from"]) == (
        1,
        "a red house number 1",
        "landscape",
        "case-1_1.png",
    )
    assert gallery.picture(question.case.id, question.seeds[1]).getpixel((0, 0)) == (120, 80, 80)
    assert suite_of(tmp_path / "g").hash == suite.hash


def refused(folder: Path, suite: Suite, to: Path, **options: object) -> str:
    with pytest.raises(GalleryError) as error:
        adopt(folder, suite, to, **options)  # type: ignore[arg-type]
    assert not to.exists()
    return str(error.value)


def test_missing_pictures_are_listed_or_rows(suite: Suite, folder: Path, tmp_path: Path) -> None:
    (folder / "case-0_1.png").unlink()
    message = refused(folder, suite, tmp_path / "g")
    assert "1 are missing" in message
    assert "case-0_1.png" in message
    gallery = adopt(folder, suite, tmp_path / "g", allow_missing=True)
    assert len(gallery) == 5
    (row,) = gallery.failures
    assert (row["case"], row["k"], row["status"], row["why"]) == ("case-0", 1, "failed", "no file case-0_1.png")


def test_everything_that_is_wrong_is_named_at_once(suite: Suite, folder: Path, tmp_path: Path) -> None:
    plain().save(folder / "cover.png")
    plain(size=(32, 64)).save(folder / "case-0_0.png")
    (folder / "case-1_0.png").write_bytes((folder / "case-1_0.png").read_bytes()[:60])
    (folder / "notes.txt").write_text("no picture, no matter")
    message = refused(folder, suite, tmp_path / "g", allow_missing=True)
    assert "3 cannot be used" in message
    for words in (
        "cover.png: no picture of this suite",
        "64 x 32 px",
        "64 x 64",
        "case-1_0.png is no readable picture",
    ):
        assert words in message
    assert "notes.txt" not in message


def test_patterns(suite: Suite, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for question in suite.questions:
        (other / question.case.id).mkdir(parents=True)
        for seed in question.seeds:
            plain().save(other / question.case.id / f"{seed}.webp", lossless=True)
    assert len(adopt(other, suite, tmp_path / "g", names="{case}/{seed}.webp")) == 6
    for names in ("{case}.png", "{k}.png", "{case}_{number}.png"):
        assert "--names" in refused(folder, suite, tmp_path / "h", names=names)


def test_a_table(suite: Suite, folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "map.csv"
    names = [path.name for path in sorted(folder.iterdir())]
    lines = [f"{name},{name[:6]},{name[7]}" for name in names]
    table.write_text("\n".join(["file,case,k", *lines]) + "\n")
    assert len(adopt(folder, suite, tmp_path / "g", table=table)) == 6
    table.write_text("\n".join(["file,case,k", *lines[:-1]]) + "\n")
    message = refused(folder, suite, tmp_path / "h", table=table)
    assert "no line for case-2, k 1" in message
    assert f"{names[-1]}: no picture of this suite" in message
    for bad, words in (
        ("x.png,case-9,0", "no case 'case-9'"),
        ("x.png,case-0,5", "k counts from 0"),
        (",case-0,0", "has file, case"),
    ):
        table.write_text(f"file,case,k\n{bad}\n")
        assert words in refused(folder, suite, tmp_path / "h", table=table)


def test_the_command(suite: Suite, folder: Path, tmp_path: Path) -> None:
    (folder / "case-0_1.png").unlink()
    words = ("bench", "adopt", folder, "--suite", suite.folder, "--to", tmp_path / "g")
    result = fewstep(*words)
    assert result.exit_code == 2
    assert "case-0_1.png" in result.output
    assert not (tmp_path / "g").exists()
    assert fewstep(*words, "--allow-missing").exit_code == 0
    assert fewstep(*words, "--allow-missing").exit_code == 0  # again changes nothing
    assert len(open_gallery(tmp_path / "g")) == 5
    assert fewstep("bench", "adopt", tmp_path / "no", "--suite", suite.folder, "--to", tmp_path / "h").exit_code == 2
