"""The screens in a real Chromium: every one opens without a complaint; the slider, keys, phone, dark, a growing run."""

import json
from pathlib import Path

import pytest

from fewstep.run.self_exam.exam_cases import frozen_set
from fewstep.run.studio.screen_table import SCREENS
from tests.browser import Browser
from tests.run.studio.conftest import Served
from tests.run.studio.small_runs import append, draw_examination, small_run, training_line

OUTPUT = "document.querySelector('.timeline output').textContent"
STUDENT = "document.querySelector('.tile.student img').src"
LOADED = "[...document.querySelectorAll('.tile img')].every((i) => i.complete && i.naturalWidth)"


def open_run(browser: Browser, served: Served, name: str) -> None:
    browser.open(f"{served.address}/#/run?run={name}")
    browser.until("document.querySelectorAll('.tile').length > 3 && document.querySelectorAll('.chart').length > 5")


@pytest.mark.parametrize("screen", [each.name for each in SCREENS if each.title])
def test_every_screen_opens_on_every_size_and_in_the_dark(browser: Browser, served: Served, screen: str) -> None:
    for width, dark in ((1280, False), (390, True)):
        browser.look(width, 800, dark)
        browser.open(f"{served.address}/#/{screen}")
        browser.until("document.querySelector('h1')")
        assert browser.js(f"document.querySelector('nav a[aria-current]').hash === '#/{screen}'")
        assert browser.js("document.documentElement.scrollWidth") <= width
        dark_now = "parseInt(getComputedStyle(document.documentElement).backgroundColor.split('(')[1]) < 80"
        assert browser.js(dark_now) == dark


@pytest.mark.parametrize("screen", [*(each.name for each in SCREENS if each.title), "run?run=first"])
def test_whoever_hears_a_screen_or_sees_little_of_it(browser: Browser, served: Served, screen: str) -> None:
    """axe-core finds nothing: names, roles, contrast."""
    axe = pytest.importorskip("axe_core_python", reason="axe-core-python is not installed (pip install -e '.[dev]')")
    browser.look(1280, 900, dark=screen != "plan")
    browser.open(f"{served.address}/#/{screen}")
    browser.until("document.querySelector('h1')")
    heard = "[...document.querySelectorAll('.unseen')].every((e) => e.getBoundingClientRect().width <= 1)"
    assert browser.js(heard)
    browser.js((Path(axe.__file__).parent / "axe.min.js").read_text() + ";1")
    found = "axe.run(document, {resultTypes: ['violations']}).then((r) => JSON.stringify(r.violations))"
    told = [(each["id"], [node["html"] for node in each["nodes"]]) for each in json.loads(browser.js(found))]
    assert not told


def test_the_list_says_how_each_run_is(browser: Browser, served: Served) -> None:
    browser.open(served.address)
    browser.until("document.querySelectorAll('.runs tbody tr').length >= 2")
    rows = json.loads(
        browser.js("JSON.stringify([...document.querySelectorAll('.runs tbody tr')].map((r) => r.textContent))")
    )
    (first,) = [row for row in rows if row.startswith("first")]
    (second,) = [row for row in rows if row.startswith("second")]
    assert "stopped" in first
    assert "30 of 40" in first
    assert "22 at 20" in first
    assert "Resume" in first
    assert "done" in second
    assert "Resume" not in second


def test_one_slider_for_all_pictures(browser: Browser, served: Served) -> None:
    open_run(browser, served, "first")
    assert browser.js(OUTPUT) == "iteration 20"
    browser.until(LOADED)
    assert "student-000020" in browser.js(STUDENT)
    browser.js("document.activeElement.blur()")
    browser.key("ArrowLeft")
    assert browser.js(OUTPUT) == "iteration 0"
    assert "student-000000" in browser.js(STUDENT)
    browser.until("document.querySelector('.tile.student .caption').textContent.includes('PSNR 20')")
    assert browser.js("document.querySelector('.case p').textContent") == "a lighthouse at dawn"
    edit = "[...document.querySelectorAll('.case')].find((each) => each.innerText.startsWith('make the disc red'))"
    words = json.loads(browser.js(f"JSON.stringify({edit}.innerText.split('\\n').filter((each) => each))"))
    assert words[1:5] == ["Playground", "source", "teacher", "teacher at 4"]
    assert words[5].startswith("student")
    assert "teacher at the student's steps 18.5" in browser.js("document.querySelector('.charts').textContent")
    assert browser.js("[...document.querySelectorAll('.case p')].some((p) => p.textContent.startsWith('<img src=x'))")
    browser.js("document.querySelector('.timeline input').focus()")
    browser.key("ArrowRight")
    assert browser.js(OUTPUT) == "iteration 20"


def test_a_run_that_grows_under_the_reader(browser: Browser, served: Served) -> None:
    """New lines reach the curves and new pictures the slider, without a reload; a torn line is waited for."""
    run = small_run(served.root / "growing", trained=25)
    served.studio.places.look_again()
    open_run(browser, served, "growing")
    browser.js("window.kept = true")
    browser.until("document.getElementById('link-state').textContent === 'live'")
    browser.until("document.querySelector('.run-head').textContent.includes('25 of 40')")
    append(run, *(training_line(i) for i in range(25, 31)))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"phase": "distil", "iteration": 31, "stud')
    browser.until("document.querySelector('.run-head').textContent.includes('31 of 40')")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('ent_step": 3}\n')
    exam = frozen_set(run)
    assert exam is not None
    draw_examination(run, exam, 30)
    browser.until(f"{OUTPUT} === 'iteration 30'")
    browser.until("document.querySelector('.run-head').textContent.includes('32 of 40')")
    assert "student-000030" in browser.js(STUDENT)
    assert browser.js("window.kept")


def test_two_pictures_under_one_glass(browser: Browser, served: Served) -> None:
    open_run(browser, served, "first")
    browser.until(LOADED)
    browser.click(".tile.student")
    browser.until("document.querySelector('dialog.viewer .viewer-foot').textContent.includes('seed 1')")
    pixel = (
        "(() => { const c = document.querySelector('dialog.viewer canvas'); "
        "return [...c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data]; })()"
    )
    for digit, mode in ("2", "flicker"), ("3", "split"), ("4", "difference"):
        browser.key(digit)
        pressed = "document.querySelector('dialog.viewer .group button[aria-pressed=true]').dataset.mode"
        assert browser.js(pressed) == mode
    browser.until(f"{pixel}[3] === 255")
    browser.key("ArrowDown")
    browser.until("document.querySelector('dialog.viewer .viewer-foot').textContent.includes('seed 2')")
    browser.key("ArrowLeft")
    assert browser.js(OUTPUT) == "iteration 0"
    browser.js("document.querySelector('dialog.viewer').close()")
    browser.until("!document.querySelector('dialog.viewer')")


def test_a_phone_shows_a_run(browser: Browser, served: Served) -> None:
    browser.look(390, 800, dark=True)
    open_run(browser, served, "first")
    assert browser.js("document.documentElement.scrollWidth") <= 390


def test_a_fork_shows_what_it_changes(browser: Browser, served: Served) -> None:
    browser.open(served.address)
    browser.until("document.querySelectorAll('.runs tbody tr').length >= 2")
    browser.click("button[aria-label='Fork first']")
    browser.until("document.querySelector('dialog pre')")
    browser.js(
        "(() => { const t = document.querySelector('dialog textarea'); t.value = 'student.learning_rate=0.0005';"
        " t.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    browser.until("document.querySelector('dialog').textContent.includes('student.learning_rate: 0.00125 -> 0.0005')")
    assert "--fork" in browser.js("document.querySelector('dialog').textContent")
    browser.js(
        "(() => { const t = document.querySelector('dialog textarea'); t.value = 'student.rate=1';"
        " t.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    browser.until("document.querySelector('dialog .notice')?.textContent.includes('student.rate')")
    browser.complaints.clear()  # the refusal's status
    browser.js("document.querySelector('dialog').close()")


def test_what_is_gone_is_said(browser: Browser, served: Served, tmp_path: Path) -> None:
    browser.open(f"{served.address}/#/run?run=nowhere")
    browser.until("document.querySelector('.fault-page')?.textContent.includes(\"no run 'nowhere'\")")
    browser.complaints.clear()  # the refusal's status
