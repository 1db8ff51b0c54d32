"""A page shows what it is given and runs nothing of it."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewstep.pages.charts import Series, line_chart
from fewstep.pages.page import ReportPage, Sheet, SheetPicture, StatCard, Strip, data_uri, page_html
from fewstep.runtime.errors import RunError
from tests.pages.html_outline import HtmlOutline

EVIL = '</script><script>alert("x")</script><img src="https://example.org/x.png" onerror=alert(1)>'


def test_prompts_are_captions_and_nothing_more() -> None:
    dot = Image.new("RGB", (64, 64), "teal")
    sheet = Sheet("t", (Strip(EVIL, (SheetPicture(EVIL, dot), SheetPicture("b", dot, mark=True))),))
    html = page_html(
        ReportPage(
            EVIL, EVIL, cards=(StatCard("1", EVIL),), sheets=(sheet,), texts=((EVIL, EVIL),), facts=((EVIL, EVIL),)
        )
    )
    outline = HtmlOutline(html)
    assert [tag for tag, _ in outline.tags].count("script") == 1
    assert [tag for tag, _ in outline.tags].count("img") == 2
    assert not any("onerror" in attributes for _, attributes in outline.tags)
    assert EVIL in outline.text
    assert "<script>" not in str(line_chart([Series(EVIL, [(0, 1), (1, 2)])], EVIL, EVIL))


def test_a_torn_picture_is_told_by_its_name(tmp_path: Path) -> None:
    whole = tmp_path / "seen.png"
    Image.new("RGB", (64, 64), "teal").save(whole)
    for length in (20, 60):
        torn = tmp_path / f"torn-{length}.png"
        torn.write_bytes(whole.read_bytes()[:length])
        with pytest.raises(RunError, match=rf"torn-{length}\.png cannot be read as a picture .*; restore it"):
            data_uri(torn)
    with pytest.raises(RunError, match=r"cannot be read as a picture \(FileNotFoundError\)"):
        data_uri(tmp_path / "missing.png")


def test_small_pictures_keep_every_pixel() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    kept = Image.open(io.BytesIO(base64.b64decode(data_uri(Image.fromarray(noise)).partition(",")[2])))
    assert np.array_equal(np.asarray(kept), noise)
