"""Bench and Data: galleries and cases of the given folders, in the browser; what lies elsewhere is not shown."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.bench.report_galleries import Made, gallery, suite
from tests.browser import Browser
from tests.run.studio.conftest import Served
from tests.run.studio.small_runs import EVIL, picture, small_run

CASES = 24


@pytest.fixture(scope="module")
def galleries(served: Served) -> Path:
    folder = served.root / "galleries"
    edits = suite(folder / "suite", "edit", CASES, prompts={0: EVIL})
    for made in (Made("teacher", 4.2, size=64), Made("student", 3.4, size=64, failures={7: "NaN"})):
        gallery(folder / made.system, edits, made)
    return folder


def test_galleries_beside_each_other(browser: Browser, served: Served, galleries: Path) -> None:
    browser.open(f"{served.address}/#/bench")
    browser.until("document.querySelectorAll('.plain input').length === 2")
    for name in ("galleries/teacher", "galleries/student"):
        browser.click(f"input[value='{name}']")
    browser.click("button.main")
    browser.until("document.querySelector('.bench-cases .tile img')?.naturalWidth > 0")
    assert browser.js("document.querySelectorAll('.bench-cases .case').length") == 20
    assert browser.js("document.querySelector('.bench-cases p').textContent") == EVIL
    assert browser.js("document.querySelectorAll('.whisker').length") >= 2
    browser.js(
        "(() => { const s = [...document.querySelectorAll('label')].find((l) => l.textContent.startsWith('show'))"
        ".querySelector('select'); s.value = 'failures'; s.dispatchEvent(new Event('change')); })()"
    )
    assert browser.js("document.querySelectorAll('.bench-cases .case').length") == 1
    assert "NaN" in browser.js("document.querySelector('.bench-cases').textContent")
    browser.click(".bench-cases .tile:not(:disabled)")
    browser.until("document.querySelector('dialog.viewer')")
    browser.js("document.querySelector('dialog.viewer').close()")


def test_only_pictures_of_the_chosen_galleries(served: Served, galleries: Path) -> None:
    headers = {"x-studio-token": served.studio.page_token}
    with httpx.Client(base_url=served.address, headers=headers, timeout=60) as http:
        told = http.post("/api/bench/report", json={"galleries": ["galleries/teacher"]}).json()
        while told["job"] and told["job"]["state"] == "working":
            told["job"] = http.get("/api/bench/job", params={"job": told["job"]["id"]}).json()
        key = told["report"]
        own = http.get("/api/bench/data", params={"report": key}).json()["rows"][0][7][0][0][0]
        assert http.get("/api/bench/picture", params={"report": key, "path": own}).status_code == 200
        for path in ("../../../../../etc/passwd", own.replace("teacher", "student"), "data.js", "x.png"):
            assert http.get("/api/bench/picture", params={"report": key, "path": path}).status_code in (403, 404), path
        assert http.post("/api/bench/report", json={"galleries": ["../x"]}).status_code == 404
        assert http.get("/api/bench/data", params={"report": "../x"}).status_code == 404


@pytest.fixture(scope="module")
def learned(served: Served, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run with a file of edits in the given folders, and one outside them."""
    inside, outside = served.root / "cases", tmp_path_factory.mktemp("elsewhere")
    for folder in (inside, outside):
        folder.mkdir(exist_ok=True)
        picture(folder / "photo.png", 90)
    picture(outside / "secret.png", 10)
    told: list[dict[str, Any]] = [
        {"id": f"e{i}", "task": "edit", "prompt": prompt, "references": ["photo.png"], "category": "style"}
        for i, prompt in enumerate(("make it red", EVIL, "make it  RED", "a lighthouse at dawn"))
    ]
    told.append({"id": "away", "task": "edit", "prompt": "x", "references": [str(outside / "secret.png")]})
    lines = [json.dumps(each) for each in told]
    (inside / "edits.jsonl").write_text("\n".join([*lines, '{"prompt": 3}', "no json"]) + "\n")
    (outside / "edits.jsonl").write_text(lines[0] + "\n")
    sources = [f"data.edit.0.source={inside / 'edits.jsonl'}", f"data.t2i.0.source={outside / 'edits.jsonl'}"]
    small_run(served.root / "learned", *sources, trained=2)
    served.studio.places.look_again()
    return "learned"


def test_what_a_run_learns_from(browser: Browser, served: Served, learned: str) -> None:
    browser.open(f"{served.address}/#/data?run={learned}")
    browser.until("document.querySelectorAll('.data-case').length === 5")
    page = browser.js("document.querySelector('main').textContent")
    assert "lies outside the given folders" in page
    assert "2 lines that cannot be used" in page
    assert "1 groups of cases that say the same" in page
    assert "1 pictures lie outside the given folders" in page
    browser.until("[...document.querySelectorAll('.data-case img')].every((i) => i.naturalWidth)")
    assert browser.js("document.querySelectorAll('.data-case img').length") == 4
    browser.js("[...document.querySelectorAll('button')].find((b) => b.textContent === 'Compare').click()")
    browser.until("document.querySelector('main').textContent.includes('share a run of words')")


def test_a_picture_elsewhere_is_refused(served: Served, learned: str) -> None:
    asked = {"run": learned, "file": "1", "case": "4", "which": "source"}
    assert httpx.get(f"{served.address}/api/data/picture", params=asked).status_code == 403
    assert httpx.get(f"{served.address}/api/data/cases", params={"run": learned, "file": "0"}).status_code == 404
    for more in ({"case": "99"}, {"which": "target"}, {"file": "7"}, {"case": "x"}):
        assert httpx.get(f"{served.address}/api/data/picture", params=asked | more).status_code in (403, 404)
