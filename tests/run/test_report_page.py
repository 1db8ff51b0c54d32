"""The report is one static file that says everything, and runs nothing that a prompt brings along."""

import json
import math
import random
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from fewstep.pages.charts import (
    Series,
    line_chart,
    ticks,
)
from fewstep.pages.page import (
    ReportPage,
    Sheet,
    SheetPicture,
    StatCard,
    Strip,
    data_uri,
    page_html,
    write_html,
)
from fewstep.pocket.cases import PocketCase
from fewstep.pocket.exam import (
    ExaminedSystem,
    ExamSpec,
    examine,
)
from fewstep.pocket.probe import Probe, Reader
from fewstep.run import recipe
from fewstep.run.examination import ExaminationResult
from fewstep.run.folder import RunDir
from fewstep.run.report_page import student_page

EVIL = '</script><script>alert("x")</script><img src="https://example.org/x.png" onerror=alert(1)>'
COLUMNS = {"teacher": "Teacher, 40 steps", "plain": "Teacher, 4 steps", "student": "Student, 4 steps"}


class Outline(HTMLParser):
    """Every tag with its attributes, ids, and visible text; complains about what is left open."""

    VOID = ("meta", "img", "path", "circle", "br")

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("script", "style"):
            self.text += data


def blurred(radius: float) -> ExaminedSystem:
    def sampler(cases: Sequence[PocketCase], seeds: Sequence[int]) -> list[Image.Image]:
        pairs = zip(cases, seeds, strict=True)
        return [case.target.filter(ImageFilter.GaussianBlur(radius + 0.01 * (seed % 7))) for case, seed in pairs]

    steps = [1 - i / 4 for i in range(4)]
    return ExaminedSystem(
        sampler, {"sigmas": steps, "network_calls": {"t2i": 4, "edit": 4}, "guidance": {"t2i": [1.0, False, ""]}}
    )


def lived(folder: Path) -> RunDir:
    """A run folder as one of 60 iterations leaves it."""
    with RunDir.open_or_create(folder, recipe.load_recipe("pocket", []), {"device": "cpu"}) as run:
        draw = random.Random(0)
        with run.metrics_path.open("w") as file:
            for i in range(120):
                told = {"phase": "distil", "iteration": i, "student_step": i % 4, "task": "t2i"}
                told |= {
                    "tasks": {"t2i": 32 * (i + 1), "edit": 32 * (i + 1)},
                    "categories": {"t2i/landscape": 11 * i, "edit/scene": 5 * i},
                }
                told |= {
                    "cosine": 1 - math.exp(-i / 20) * draw.random(),
                    "gap": 0.3 * draw.random(),
                    "seconds": {"iteration": 2.0},
                }
                told |= {"student_loss": draw.random(), "critic_loss": None if i == 5 else draw.random()}
                told |= {"pull/style": 1 + draw.random()} if i % 4 > 1 else {}
                told |= {"saturation": 0.01, "saturation_teachers": 0.004, "latent_spread": 1.1}
                file.write(json.dumps(told) + "\n")
                if i % 50 == 10:
                    event = {"phase": "event", "iteration": i, "teacher": "style", "task": "t2i", "student_step": 2}
                    event |= {"pull": 5.25, "ratio": 10.5, "cosine": 0.4, "bound": 4.0, "answer": "halve", "trust": 0.5}
                    file.write(json.dumps(event) + "\n")
                if i % 25 == 0:
                    seen = {
                        "phase": "examine",
                        "iteration": i,
                        "attributes": 0.5 + i / 300,
                        "flat_noise": 1.5 - i / 200,
                    }
                    file.write(json.dumps(seen) + "\n")
        pictures = run.samples / "pictures"
        pictures.mkdir()
        for name in ("teacher-00", "student-000000-00", "student-000025-00", "student-000050-00"):
            Image.new("RGB", (64, 64), "teal").save(pictures / f"{name}.png")
        return run


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> ReportPage:
    folder = tmp_path_factory.mktemp("run")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        probe = Probe(Reader(), {})
    systems = {"teacher": blurred(0.2), "plain": blurred(1.2), "student": blurred(0.4)}
    examine(systems, ExamSpec(cases=4, diversity=2, seeds=3), probe, folder / "examination")
    run = lived(folder / "run")
    return student_page(
        run, ExaminationResult.of(folder / "examination", COLUMNS), command="fewstep distill pocket --out runs/pocket"
    )


@pytest.fixture(scope="module")
def html(page: ReportPage) -> str:
    return page_html(page)


def test_nothing_comes_from_outside(html: str) -> None:
    outline = Outline(html)
    for tag, attributes in outline.tags:
        assert tag not in ("link", "iframe", "object", "embed"), tag
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/")), f"<{tag} {name}={value[:60]}>"
    assert "@import" not in html
    assert not re.search(r"url\(", html)
    assert not re.search(r"https?://", html)


def test_every_part_is_there(html: str) -> None:
    outline = Outline(html)
    ids = {attributes.get("id") for _, attributes in outline.tags}
    assert {"main", "figures", "pictures", "training", "data", "reproduce"} <= ids
    for anchor in (a["href"] for tag, a in outline.tags if tag == "a"):
        assert str(anchor).removeprefix("#") in ids
    parts = [*COLUMNS.values(), "Landscapes", "Portraits", "Signs with letters", "Edits of the letters", "Repairs"]
    parts += [
        "Attributes right",
        "Fréchet distance",
        "floor",
        "Distance between seeds",
        "network calls",
        "While it learnt",
    ]
    parts += [
        "Declared and realised",
        "50.0 % (3,840 of 7,680)",
        "Samples by task",
        "3,840",
        "fewstep distill pocket",
        "name: pocket",
        "torch",
        "4.0 minutes",
    ]
    parts += ["Pull of style", "step 3", "Saturation", "Answers of the watch", "Iteration 10: style pulled 5.25 times"]
    for part in parts:
        assert part in outline.text, part
    pictures = [attributes for tag, attributes in outline.tags if tag == "img"]
    assert len(pictures) == 3 * 4 * 3 + 6 * 4 * 4 + 4
    assert all(attributes["alt"] for attributes in pictures)
    assert "image-rendering: pixelated" in html


def test_events_of_the_watch_are_a_small_list(tmp_path: Path) -> None:
    run = lived(tmp_path / "run")
    with run.metrics_path.open("a") as file:
        event = {"phase": "event", "iteration": 7, "teacher": "x", "task": "edit", "student_step": 2, "pull": 5.0}
        file.write((json.dumps(event | {"bound": 4.0, "answer": "warn", "trust": 1.0}) + "\n") * 30)
    events = student_page(run, None, command="c").events
    assert len(events) == 21
    assert events[0].endswith("Answer: halve; trust is now 0.5.")
    assert events[-1] == "13 more in metrics.jsonl."  # 3 of the run and 30 more, 20 of them shown


def test_prompts_are_captions_and_nothing_more() -> None:
    dot = Image.new("RGB", (64, 64), "teal")
    sheet = Sheet("t", (Strip(EVIL, (SheetPicture(EVIL, dot), SheetPicture("b", dot, mark=True))),))
    html = page_html(
        ReportPage(
            EVIL, EVIL, cards=(StatCard("1", EVIL),), sheets=(sheet,), texts=((EVIL, EVIL),), facts=((EVIL, EVIL),)
        )
    )
    outline = Outline(html)
    assert [tag for tag, _ in outline.tags].count("script") == 1
    assert [tag for tag, _ in outline.tags].count("img") == 2
    assert not any("onerror" in attributes for _, attributes in outline.tags)
    assert EVIL in outline.text
    assert "<script>" not in str(line_chart([Series(EVIL, [(0, 1), (1, 2)])], EVIL, EVIL))


def test_small_pictures_keep_every_pixel() -> None:
    import base64
    import io

    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    kept = Image.open(io.BytesIO(base64.b64decode(data_uri(Image.fromarray(noise)).partition(",")[2])))
    assert np.array_equal(np.asarray(kept), noise)


def test_a_run_without_examination_still_has_a_page(tmp_path: Path) -> None:
    to = write_html(student_page(lived(tmp_path / "run"), None, command="c"), tmp_path / "report.html")
    html = to.read_text()
    assert "not been examined" in html
    assert 'id="figures"' not in html
    assert 'id="training"' in html
    Outline(html)


def test_an_unfinished_examination_is_none(tmp_path: Path) -> None:
    assert ExaminationResult.of(tmp_path, COLUMNS) is None
    (tmp_path / "figures.json").write_text('{"systems": {"teacher": {}}}')
    assert ExaminationResult.of(tmp_path, COLUMNS) is None


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.93, 0.99), (-3, 250), (1e-7, 3e-7), (5, 5.0001)])
def test_ticks_are_round_and_within(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 9
    assert low <= found[0] < found[-1] <= high


def test_charts_bear_whatever_a_run_leaves() -> None:
    assert line_chart([], "x", "t") == ""
    assert line_chart([Series("a", [(0, math.nan)])], "x", "t") == ""
    assert "circle" in line_chart([Series("a", [(3, 2.0)])], "x", "t")
    assert "NaN" not in line_chart([Series("a", [(0, 1.0), (1, math.inf), (2, 1.0)])], "x", "t")
    long = line_chart([Series("a", [(i, i % 7) for i in range(500)])], "x", "t")
    assert 'class="c0 faint"' in long
