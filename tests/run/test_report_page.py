"""The report is one static file that says everything, and runs nothing that a prompt brings along."""

import json
import math
import random
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageFilter

from fewstep.pages.page import (
    ReportPage,
    page_html,
    write_html,
)
from fewstep.pocket.cases import PocketCase
from fewstep.pocket.exam import (
    ExamSpec,
    examine,
)
from fewstep.pocket.exam_gallery import ExaminedSystem
from fewstep.pocket.probe import Probe, Reader
from fewstep.run import recipe
from fewstep.run.examination import ExaminationResult
from fewstep.run.folder import RunDir
from fewstep.run.report_page import student_page
from tests.pages.html_outline import HtmlOutline

COLUMNS = {"teacher": "Teacher, 40 steps", "plain": "Teacher, 4 steps", "student": "Student, 4 steps"}


def blurred(radius: float) -> ExaminedSystem:
    def sampler(cases: Sequence[PocketCase], seeds: Sequence[int]) -> list[Image.Image]:
        pairs = zip(cases, seeds, strict=True)
        return [case.target.filter(ImageFilter.GaussianBlur(radius + 0.01 * (seed % 7))) for case, seed in pairs]

    steps = [1 - i / 4 for i in range(4)]
    return ExaminedSystem(
        sampler, {"sigmas": steps, "network_calls": {"t2i": 4, "edit": 4}, "guidance": {"t2i": [1.0, False, ""]}}
    )


def run_of_60_iterations(folder: Path) -> RunDir:
    """A run folder as one of 60 iterations leaves it."""
    with RunDir.open_or_create(folder, recipe.load_recipe("pocket", []), {"device": "cpu"}) as run:
        chance = random.Random(0)
        with run.metrics_path.open("w") as file:
            for i in range(120):
                record = {"phase": "distil", "iteration": i, "student_step": i % 4, "task": "t2i"}
                record |= {
                    "tasks": {"t2i": 32 * (i + 1), "edit": 32 * (i + 1)},
                    "categories": {"t2i/landscape": 11 * i, "edit/scene": 5 * i},
                }
                record |= {
                    "cosine": 1 - math.exp(-i / 20) * chance.random(),
                    "gap": 0.3 * chance.random(),
                    "seconds": {"iteration": 2.0},
                }
                record |= {"student_loss": chance.random(), "critic_loss": None if i == 5 else chance.random()}
                record |= {"pull/style": 1 + chance.random()} if i % 4 > 1 else {}
                record |= {"saturation": 0.01, "saturation_teachers": 0.004, "latent_spread": 1.1}
                file.write(json.dumps(record) + "\n")
                if i % 50 == 10:
                    event = {"phase": "event", "iteration": i, "teacher": "style", "task": "t2i", "student_step": 2}
                    event |= {"pull": 5.25, "ratio": 10.5, "cosine": 0.4, "bound": 4.0, "answer": "halve", "trust": 0.5}
                    file.write(json.dumps(event) + "\n")
                if i % 25 == 0:
                    examined = {
                        "phase": "examine",
                        "iteration": i,
                        "attributes": 0.5 + i / 300,
                        "flat_noise": 1.5 - i / 200,
                    }
                    file.write(json.dumps(examined) + "\n")
        pictures = run.samples / "pictures"
        pictures.mkdir()
        (run.samples / "cases.json").write_text(json.dumps([{"id": "a", "prompt": "a lighthouse & a boat"}]))
        for name in (
            "source-00-0",
            "few-00",
            "teacher-00",
            "student-000000-00",
            "student-000025-00",
            "student-000050-00",
        ):
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
    run = run_of_60_iterations(folder / "run")
    return student_page(
        run, ExaminationResult.of(folder / "examination", COLUMNS), command="fewstep distill pocket --out runs/pocket"
    )


@pytest.fixture(scope="module")
def html(page: ReportPage) -> str:
    return page_html(page)


def test_nothing_comes_from_outside(html: str) -> None:
    outline = HtmlOutline(html)
    for tag, attributes in outline.tags:
        assert tag not in ("link", "iframe", "object", "embed"), tag
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/")), f"<{tag} {name}={value[:60]}>"
    assert "@import" not in html
    assert not re.search(r"url\(", html)
    assert not re.search(r"https?://", html)


def test_every_part_is_there(html: str) -> None:
    outline = HtmlOutline(html)
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
        "Samples on the way",
        "a lighthouse & a boat",
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
    parts += ["Pull of style", "step 3", "Saturation", "What was noticed", "Iteration 10: style pulled 5.25 times"]
    for part in parts:
        assert part in outline.text, part
    pictures = [attributes for tag, attributes in outline.tags if tag == "img"]
    assert len(pictures) == 3 * 4 * 3 + 6 * 4 * 4 + 6 + 2 * 3, "two rows stand in the first screen too"
    assert all(attributes["alt"] for attributes in pictures)
    assert "image-rendering: pixelated" in html


def test_events_of_the_monitor_are_a_small_list(tmp_path: Path) -> None:
    run = run_of_60_iterations(tmp_path / "run")
    with run.metrics_path.open("a") as file:
        event = {"phase": "event", "iteration": 7, "teacher": "x", "task": "edit", "student_step": 2, "pull": 5.0}
        file.write((json.dumps(event | {"bound": 4.0, "answer": "warn", "trust": 1.0}) + "\n") * 30)
    events = student_page(run, None, command="c").events
    assert len(events) == 21
    assert events[0].endswith("Answer: halve; trust is now 0.5.")
    assert events[-1] == "13 more in metrics.jsonl."  # 3 of the run and 30 more, 20 of them shown


def test_a_run_without_examination_still_has_a_page(tmp_path: Path) -> None:
    to = write_html(student_page(run_of_60_iterations(tmp_path / "run"), None, command="c"), tmp_path / "report.html")
    html = to.read_text()
    assert "not been examined" in html
    assert 'id="figures"' not in html
    assert 'id="training"' in html
    HtmlOutline(html)


def test_an_unfinished_examination_is_none(tmp_path: Path) -> None:
    assert ExaminationResult.of(tmp_path, COLUMNS) is None
    (tmp_path / "figures.json").write_text('{"systems": {"teacher": {}}, "figures": []}')
    assert ExaminationResult.of(tmp_path, COLUMNS) is None
