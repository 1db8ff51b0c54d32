"""What is asked for and what is read: shuffled words, hallucinated lines, letters wrong; and the reader itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from fewstep.bench.metrics import ocr
from fewstep.bench.metrics.metric import Skipped
from fewstep.bench.metrics.ocr import TextLine
from fewstep.bench.metrics.text import (
    expected_lines,
    text_values,
    words_in,
)

WANTED = ["Fresh bread daily", "open from nine to five"]


def read(*lines: str, height: float = 20) -> list[TextLine]:
    return [TextLine(line, height, 1.0) for line in lines]


def test_right_text_is_right_whatever_its_case() -> None:
    found = text_values(WANTED, read("FRESH bread daily.", "Open from nine to five"))
    assert found["word_f1"] == found["order"] == 1
    assert found["exact_lines"] == 0.5  # the full stop
    assert (found["extra_lines"], found["extra_words"]) == (0, 0)
    assert found["cer"] == pytest.approx(1 / 40)


def test_shuffled_words_keep_the_bag_and_lose_the_order() -> None:
    found = text_values(WANTED, read("daily bread Fresh", "five to nine from open"))
    assert found["word_f1"] == 1
    assert found["order"] < 0.5
    assert found["exact_lines"] == 0
    assert found["cer"] > 0.4


def test_swapped_lines_are_exact_and_out_of_order() -> None:
    found = text_values(WANTED, read(*reversed(WANTED)))
    assert found["exact_lines"] == 1
    assert found["order"] < 1


def test_hallucinated_lines_cost_precision_and_are_counted() -> None:
    found = text_values(WANTED, read(*WANTED, "zqxv kkjw"))
    assert found["word_recall"] == found["exact_lines"] == 1
    assert found["word_precision"] < 1
    assert (found["extra_lines"], found["extra_words"]) == (1, 2)


def test_a_line_broken_in_two_is_not_hallucinated() -> None:
    found = text_values(["open from nine to five"], read("open from nine", "to five"))
    assert (found["extra_lines"], found["word_f1"], found["cer"]) == (0, 1, 0)


def test_missing_text() -> None:
    found = text_values(WANTED, [])
    assert (found["word_f1"], found["cer"], found["exact_lines"]) == (0, 1, 0)
    assert "order" not in found  # of no word


def test_one_letter_wrong() -> None:
    found = text_values(["HELLO"], read("HELXO"))
    assert (found["word_f1"], found["cer"]) == (0, 0.2)


def test_errors_by_height() -> None:
    found = text_values(["tiny words", "LARGE"], [TextLine("tinv wards", 11, 1), TextLine("LARGE", 50, 1)])
    assert (found["cer_under_16px"], found["cer_over_32px"]) == (0.2, 0)
    assert "cer_16_to_32px" not in found


def test_scripts_without_spaces_are_read_by_character() -> None:
    assert words_in("你好 world") == ["你", "好", "world"]
    assert text_values(["新鲜面包"], read("新鲜面色"))["word_recall"] == 0.75


def test_what_a_case_may_expect_of_text() -> None:
    assert expected_lines({}) is None
    assert expected_lines({"text": []}) == []
    assert expected_lines({"text": ["a", "b\nc"]}) == ["a", "b", "c"]
    assert expected_lines({"letters": "HEY"}) == ["HEY"]
    assert text_values([], read("stray"))["extra_lines"] == 1


@settings(max_examples=100)
@given(st.lists(st.text(max_size=12), max_size=4), st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=4))
def test_rates_are_rates(found: list[str], wanted: list[str]) -> None:
    wanted = [line for line in wanted if words_in(line)]
    for name, value in text_values(wanted, read(*found)).items():
        assert 0 <= value <= (np.inf if name.startswith("extra") else 1), name


# ---- the reader


@pytest.mark.skipif(ocr.tools() == "none", reason="the extra ocr is not installed")
def test_the_reader_reads_in_order_and_measures_heights() -> None:
    picture = Image.new("RGB", (512, 320), "white")
    draw = ImageDraw.Draw(picture)
    for y, size, words_ in ((20, 48, "HELLO WORLD"), (130, 32, "Fresh bread"), (250, 16, "tiny text here")):
        draw.text((30, y), words_, fill="black", font=ImageFont.load_default(size))
    draw.text((300, 130), "daily", fill="navy", font=ImageFont.load_default(32))
    lines = ocr.read_text(np.asarray(picture))
    assert not isinstance(lines, Skipped)
    assert text_values(["HELLO WORLD", "Fresh bread daily", "tiny text here"], lines)["cer"] == 0
    assert lines[0].height > 2 * lines[-1].height


SIGN = ["HELLO WORLD", "Fresh bread daily"]
TURNED = {
    "upside down": lambda sign: sign.rotate(180),
    "running upwards": lambda sign: sign.rotate(90, expand=True),
    "running downwards": lambda sign: sign.rotate(-90, expand=True),
}


def sign(*lines: str) -> Image.Image:
    picture = Image.new("RGB", (448, 60 + 70 * len(lines)), "white")
    for row, line in enumerate(lines):
        ImageDraw.Draw(picture).text((30, 30 + 70 * row), line, fill="black", font=ImageFont.load_default(40))
    return picture


@pytest.mark.skipif(ocr.tools() == "none", reason="the extra ocr is not installed")
@pytest.mark.parametrize("way", TURNED)
def test_lettering_that_is_turned_is_not_what_was_asked(way: str) -> None:
    lines = ocr.read_text(np.asarray(TURNED[way](sign(*SIGN))))
    assert not isinstance(lines, Skipped)
    found = text_values(SIGN, lines)
    assert found["turned_lines"] == found["extra_lines"] == 2
    assert (found["word_f1"], found["exact_lines"], found["cer"]) == (0, 0, 1)


@pytest.mark.skipif(ocr.tools() == "none", reason="the extra ocr is not installed")
@pytest.mark.parametrize("angle", [-30, -10, 0, 10, 30])
def test_lettering_that_is_only_tilted_is_read(angle: int) -> None:
    lines = ocr.read_text(np.asarray(sign(*SIGN).rotate(angle, expand=True, fillcolor="white")))
    assert not isinstance(lines, Skipped)
    found = text_values(SIGN, lines)
    assert (found["turned_lines"], found["word_f1"]) == (0, 1)


@pytest.mark.skipif(ocr.tools() == "none", reason="the extra ocr is not installed")
def test_words_that_read_the_same_either_way_are_upright() -> None:
    lines = ocr.read_text(np.asarray(sign("NOON", "SWIMS")))
    assert not isinstance(lines, Skipped)
    assert text_values(["NOON", "SWIMS"], lines)["exact_lines"] == 1


def test_scripts_without_spaces_may_run_downwards_and_single_letters_are_tall() -> None:
    tall = np.array([[0.0, 0], [20, 0], [20, 100], [0, 100]])
    wide = np.array([[0.0, 0], [100, 0], [100, 20], [0, 20]])
    assert ocr.is_sideways(tall, "HELLO")
    assert not ocr.is_sideways(wide, "HELLO")
    assert not ocr.is_sideways(tall, "新鲜面包")
    assert not ocr.is_sideways(tall, "I")


@pytest.mark.skipif(ocr.tools() == "none", reason="the extra ocr is not installed")
@pytest.mark.parametrize("letter", ["W", "U", "M", "H"])
def test_a_letter_alone_is_never_called_turned(letter: str) -> None:
    """The classifier of directions was made for lines, and takes some single letters for upside down."""
    lines = ocr.read_text(np.asarray(sign(letter)))
    assert not isinstance(lines, Skipped)
    assert not any(line.turned for line in lines)


def test_turned_lines_are_counted_and_not_read() -> None:
    lines = [TextLine(WANTED[0], 20, 1.0), TextLine(WANTED[1], 20, 1.0, turned=True)]
    found = text_values(WANTED, lines)
    assert (found["turned_lines"], found["extra_lines"], found["exact_lines"]) == (1, 1, 0.5)
    assert text_values([], lines)["turned_lines"] == 1


@pytest.mark.skipif(ocr.tools() == "none", reason="the extra ocr is not installed")
def test_the_reader_finds_nothing_on_nothing() -> None:
    assert ocr.read_text(np.full((128, 128, 3), 200, np.uint8)) == []


def test_without_the_extra_it_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr.importlib.util, "find_spec", lambda name: None)
    found = ocr.read_text(np.zeros((64, 64, 3), np.uint8))
    assert isinstance(found, Skipped)
    assert "fewstep[ocr]" in found.why
    assert ocr.tools() == "none"
