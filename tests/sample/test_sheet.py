"""Contact sheets: letters that can be drawn are, others are told, and transparent pictures stand on a ground."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageFont

from fewstep.pages.page import data_uri
from fewstep.pages.transparency import CHECK, CHECKS, on_checks
from fewstep.sample import lettering
from fewstep.sample.lettering import drawable, font_for, wrapped
from fewstep.sample.sheet import CELL, LINE, MARGIN, TEXT_WIDTH, SheetRow, contact_sheet

CHINESE = "海边日落时分的一座灯塔，油画风格，构图简洁，色彩温暖，远处有一艘小船和几只海鸥"
PLAIN = Image.new("RGB", (64, 64), "teal")


def written(row: SheetRow, headings: tuple[str, ...] = ("student",)) -> Image.Image:
    """The part of a sheet that holds the words of its only row."""
    return contact_sheet([row], headings).crop((0, 40, TEXT_WIDTH, 40 + CELL))


@pytest.fixture
def only_pillows_font(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without fonts."""
    monkeypatch.setattr(lettering, "INSTALLED", ())
    monkeypatch.setattr(lettering, "FOLDERS", {})
    for kept in (lettering._fonts, lettering._others):
        kept.cache_clear()
    yield
    for kept in (lettering._fonts, lettering._others):
        kept.cache_clear()


def same(one: Image.Image, other: Image.Image) -> bool:
    return ImageChops.difference(one, other).getbbox() is None


@pytest.mark.usefixtures("only_pillows_font")
def test_letters_that_no_font_has_are_boxes_and_told_once() -> None:
    assert font_for(CHINESE) is None
    plain = contact_sheet([SheetRow("boat", [PLAIN])] * 3, ["student"])
    boxes = contact_sheet([SheetRow("boat", [PLAIN]), *[SheetRow(CHINESE, [PLAIN])] * 2], ["student"])
    assert boxes.height == plain.height + 2 * LINE + MARGIN, "two lines at the foot, however many rows have boxes"
    assert boxes.crop((0, plain.height, TEXT_WIDTH, boxes.height)).getextrema()[0][0] < 255
    named = written(SheetRow(CHINESE, [PLAIN], name="case-7"))
    assert same(
        named.crop((0, 0, TEXT_WIDTH, LINE)), written(SheetRow("case-7", [PLAIN])).crop((0, 0, TEXT_WIDTH, LINE))
    )
    mixed = written(SheetRow("a sign that says 灯塔", [PLAIN]))
    latin = written(SheetRow("row 1\na sign that says", [PLAIN]))
    assert ImageChops.difference(mixed, latin).getbbox()[0] > 100, "only the end differs"  # type: ignore[index]


@pytest.mark.usefixtures("only_pillows_font")
@pytest.mark.parametrize("name", ["Unheard-Of.ttf", "wqy-microhei.ttc"])
def test_a_font_in_a_folder_of_this_machine_is_found(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Greek stands for Chinese, as below. A name that is known may lie where Pillow does not look."""
    try:
        known = ImageFont.truetype("DejaVuSans.ttf", 14)
    except OSError:
        pytest.skip("no font but Pillow's is installed here")
    (tmp_path / "deep").mkdir()
    shutil.copy(str(known.path), tmp_path / "deep" / name)
    (tmp_path / "Torn.ttf").write_bytes(b"no font")
    monkeypatch.setattr(lettering, "FOLDERS", {sys.platform: (str(tmp_path),)})
    monkeypatch.setattr(lettering, "INSTALLED", ("wqy-microhei.ttc",))
    found = font_for("φάρος")
    assert found is not None
    assert str(found.path).endswith(name)  # type: ignore[union-attr]


@pytest.mark.usefixtures("only_pillows_font")
def test_latin_letters_need_no_other_font() -> None:
    assert font_for("a lighthouse at dawn, 40 %\tand\nline") is not None
    assert drawable("naïve façade — déjà vu")[0] == "naive facade - deja vu"  # type: ignore[index]
    assert drawable(CHINESE) is None


def test_a_font_that_has_the_letters_draws_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any font here that has Greek, which Pillow's lacks, stands for one that has Chinese."""
    try:
        ImageFont.truetype("DejaVuSans.ttf", 14)
    except OSError:
        pytest.skip("no font but Pillow's is installed here")
    greek = "φάρος"
    assert font_for(greek) is not None
    whole = contact_sheet([SheetRow(greek, [PLAIN])], ["s"])
    assert whole.height == contact_sheet([SheetRow("a", [PLAIN])], ["s"]).height, "no box, so no word of boxes"


def test_words_are_wrapped_to_the_width_they_have() -> None:
    font = ImageFont.load_default(14)
    for words in ("a lighthouse at dawn " * 20, "x" * 300, f"a {'y' * 80} b"):
        lines = wrapped(words, font, 200, 100)
        assert all(font.getlength(line) <= 200 for line in lines)
        assert "".join(lines).replace(" ", "") == words.replace(" ", "")
    cut = wrapped("word " * 200, font, 200, 3)
    assert (len(cut), cut[-1][-3:]) == (3, "...")
    assert font.getlength(cut[-1]) <= 200
    assert wrapped("", font, 200, 3) == []


def test_long_headings_push_the_pictures_down() -> None:
    short, long = (contact_sheet([SheetRow("a", [PLAIN])], [h]) for h in ("s", "teacher mine, 40 steps, guidance 4"))
    assert long.height > short.height
    assert np.argwhere((np.asarray(long) == (0, 128, 128)).all(-1))[:, 0].min() > 40


def test_columns_without_pictures_are_left_out() -> None:
    rows = [SheetRow("a", [None, PLAIN]), SheetRow("b", [None, None])]
    assert contact_sheet(rows, ["source", "student"]).width == contact_sheet([SheetRow("a", [PLAIN])], ["s"]).width


@pytest.mark.parametrize("side", [16, 150, 400])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pictures_stand_on_checks(mode: str, side: int) -> None:
    clear = Image.new("RGBA", (side, side), (255, 0, 0, 0)).convert("LA" if mode == "LA" else "RGBA")
    if mode == "P":
        clear = Image.new("P", (side, side), 0)
        clear.info["transparency"] = 0
    sheet = np.asarray(contact_sheet([SheetRow("a", [clear])], ["s"]))
    cell = sheet[-CELL - 12 : -12, TEXT_WIDTH + 12 : -12]  # below the heading, which is black
    assert {tuple(pixel) for pixel in np.unique(cell.reshape(-1, 3), axis=0).tolist()} == {*CHECKS}


def test_half_transparent_pixels_are_mixed_and_opaque_pictures_stay() -> None:
    half = on_checks(Image.new("RGBA", (2 * CHECK, CHECK), (0, 0, 0, 128)))
    assert half.mode == "RGB"
    assert {half.getpixel((0, 0)), half.getpixel((CHECK, 0))} == {(107, 107, 107), (127, 127, 127)}
    assert same(on_checks(PLAIN), PLAIN)
    assert same(on_checks(PLAIN.convert("RGBA")), PLAIN)


def test_pages_show_transparent_pictures_on_checks_too() -> None:
    clear = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    assert data_uri(clear) == data_uri(on_checks(clear))
