"""The playground in a real browser: a prompt, a photo that is dragged in, what stays, and what is refused."""

import io
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fewstep.bench.suites import read_suite
from fewstep.run.folder import RunDir
from fewstep.run.recipe import load_recipe
from fewstep.run.self_exam.exam_cases import frozen_set
from fewstep.run.studio import draw_queue
from fewstep.run.studio.answers import StudioRefused
from fewstep.run.studio.draw_models import DrawColumn, draw_columns
from fewstep.run.studio.draw_queue import DrawQueue
from fewstep.run.studio.my_suite import MySuite
from fewstep.run.studio.photos import keep_photo, photo_path
from fewstep.sample.origin import save_with_origin
from tests.browser import Browser
from tests.run.studio.conftest import Served
from tests.run.studio.small_runs import small_run

NEWEST = "document.querySelector('.drawing')"
DROP = """(async () => {
  const canvas = document.createElement('canvas'); canvas.width = canvas.height = 64;
  canvas.getContext('2d').fillRect(8, 8, 40, 40);
  const blob = await new Promise((done) => canvas.toBlob(done));
  const given = new DataTransfer(); given.items.add(new File([blob], 'a photo.png', {type: 'image/png'}));
  document.dispatchEvent(new DragEvent('drop', {dataTransfer: given, bubbles: true, cancelable: true}));
})()"""
POCKET = DrawColumn("few:pocket", "pocket at 4", "", "pocket", 4)


def free() -> list[str]:
    return []


def fill(browser: Browser, prompt: str, *columns: str) -> None:
    browser.js(f"document.querySelector('#playground-prompt').value = {prompt!r}")
    wanted = f"{list(columns)!r}.includes(i.value)"
    browser.js(f"document.querySelectorAll('.picker input').forEach((i) => i.checked !== {wanted} && i.click())")


def test_drawing_an_edit_stopping_and_what_stays(browser: Browser, served: Served) -> None:
    browser.js("localStorage.clear()") if browser.js("location.href").startswith("http") else None
    browser.open(f"{served.address}/#/playground")
    browser.until("document.querySelector('.picker select')")
    browser.choose(".picker select", "")
    browser.js("document.querySelector('.picker select').dispatchEvent(new Event('change'))")
    browser.until("document.querySelector('.picker input[value=\"few:pocket\"]')")
    browser.js(DROP)
    browser.until("document.querySelector('.photo img')?.complete")
    fill(browser, "Make it night.", "few:pocket")
    browser.js("document.querySelector('#playground-prompt').focus()")
    browser.click("button.main")
    browser.until(f"{NEWEST}?.dataset.state === 'done'")
    browser.until(f"[...{NEWEST}.querySelectorAll('img')].every((i) => i.complete && i.naturalWidth === 64)")
    text = browser.js(f"{NEWEST}.textContent")
    assert "8 calls" in text
    assert "source" in text

    fill(browser, "Open country at sunset over the sea.", "model:pocket")
    browser.js("document.querySelector('.photo button').click()")
    browser.js("document.querySelector('input[aria-label=\"Number of seeds\"]').value = 16")
    browser.click("button.main")
    browser.until(f"{NEWEST}.querySelectorAll('img').length > 0 && {NEWEST}.dataset.state === 'drawing'")
    browser.js(f"[...{NEWEST}.querySelectorAll('button')].find((b) => b.textContent === 'Stop').click()")
    browser.until(f"{NEWEST}.dataset.state === 'stopped'")
    assert 0 < browser.js(f"{NEWEST}.querySelectorAll('img').length") < 16

    browser.open(f"{served.address}/#/playground")
    browser.until("document.querySelectorAll('.drawing').length === 2")
    browser.js(
        "[...document.querySelectorAll('.drawing')][1].querySelector('.drawing-actions button:last-child').click()"
    )
    browser.until("document.querySelector('.playground-memory').textContent.includes('1 case')")
    (case,) = MySuite(served.root).cases()
    assert (case.task, case.prompt, len(case.references)) == ("edit", "Make it night.", 1)


def test_no_drawing_beside_a_training(tmp_path: Path, served: Served) -> None:
    queue = DrawQueue(tmp_path, lambda: ["mine"])
    with pytest.raises(StudioRefused, match="mine trains on this machine"):
        queue.ask("a boat", [], [0], None, [POCKET], allowed=False)
    assert not queue.drawings()
    busy = served.root / "busy"
    with RunDir.open_or_create(busy, load_recipe("pocket", [])):
        served.studio.places.look_again()
        status, told = ask(served, {"prompt": "a boat", "columns": ["few:pocket"]})
        assert (status, told["error"].partition(" ")[0]) == (409, "busy")
    served.studio.places.look_again()


def ask(served: Served, fields: dict[str, Any], what: str = "draw") -> tuple[int, dict[str, Any]]:
    headers = {"content-type": "application/json", "x-studio-token": served.studio.page_token}
    request = urllib.request.Request(f"{served.address}/api/playground/{what}", json.dumps(fields).encode(), headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": " "}, "write what is to be drawn"),
        ({"prompt": "a", "columns": []}, "choose a model"),
        ({"prompt": "a", "columns": ["model:/etc"]}, "is not here"),
        ({"prompt": "a", "columns": ["few:pocket"], "references": ["../x"]}, "this photo is not there"),
        ({"prompt": "a", "columns": ["few:pocket"], "seed": -1}, "seed"),
        ({"prompt": "a", "columns": ["few:pocket"], "seed": 1.5}, "whole number"),
        ({"prompt": "a", "columns": ["few:pocket"], "count": 17}, "1 to 16"),
        ({"prompt": "a", "columns": ["few:pocket"], "size": "9x9999999"}, "HEIGHTxWIDTH"),
        ({"prompt": "a" * 12_000, "columns": ["few:pocket"]}, "10,000 characters"),
    ],
)
def test_what_is_refused(served: Served, fields: dict[str, Any], words: str) -> None:
    status, told = ask(served, fields)
    assert 400 <= status < 500
    assert words in told["error"]


def test_columns_of_the_studios_runs(served: Served) -> None:
    columns = draw_columns(served.studio)
    assert {"teacher:first", "few:first", "model:pocket"} <= columns.keys()
    assert columns["few:first"].few
    assert columns["few:first"].title == "Teacher at 4"
    assert columns["few:first:editor"].teacher == "editor"


@pytest.fixture
def keeping(served: Served) -> Path:
    """A run that keeps nine students, by their names alone."""
    run = small_run(served.root / "keeping", trained=30)
    for iteration in range(4, 40, 4):
        (run / "students").mkdir(exist_ok=True)
        (run / "students" / f"iteration-{iteration:06d}.json").write_text("{}")
    one = next(each for each in frozen_set(run).cases if each.case.task == "edit")  # type: ignore[union-attr]
    save_with_origin(Image.new("RGB", (64, 64)), run / "examination/pictures/teacher" / f"{one.stem}-7.png", EDITED)
    served.studio.places.look_again()
    return run


EDITED = "teacher editor, 40 steps, guidance 2"


def test_a_case_of_a_run_is_taken_over(browser: Browser, served: Served, keeping: Path) -> None:
    """With its picture, its seed, its teacher and as many kept students as a drawing may have."""
    browser.open(f"{served.address}/#/run?run={keeping.name}")
    browser.until("document.querySelectorAll('.case .again').length === 5")
    edit = "[...document.querySelectorAll('.case')].find((each) => each.innerText.startsWith('make the disc red'))"
    browser.js(f"{edit}.querySelector('.again').focus(), {edit}.querySelector('.again').click()")
    browser.until("document.querySelector('.photo img')?.complete")
    assert browser.js("document.querySelector('#playground-prompt').value") == "make the disc red"
    assert browser.js("document.querySelector('input[aria-label=\"First seed\"]').value") == "7"
    checked = "JSON.stringify([...document.querySelectorAll('.picker input:checked')].map((each) => each.value))"
    wanted = json.loads(browser.js(checked))
    assert {"teacher:keeping:editor", "few:keeping:editor"} < set(wanted)
    assert {"kept:keeping:20", "kept:keeping:36", "kept:keeping:4"} < set(wanted), "the slider's, the last, the first"
    assert len(wanted) == 7, "the slider stands at one of the evenly spaced"
    for fields, words in (
        ({"group": "exam", "case": 5}, "no such case"),
        ({"group": "none", "case": 0}, "no such case"),
        ({"group": "exam", "case": -1}, "whole numbers"),
    ):
        status, told = ask(served, {"run": "keeping", **fields}, "take")
        assert 400 <= status < 500
        assert words in told["error"]


def test_drawings_stay_when_the_studio_ends(tmp_path: Path) -> None:
    """One that waited then says so; a torn record is no drawing."""
    queue = DrawQueue(tmp_path, free)
    queue._thread = object()  # type: ignore[assignment]  # nobody draws
    drawing = queue.ask("a boat", [], [0, 1], (64, 64), [POCKET], allowed=False)
    (tmp_path / "drawings" / "0123456789ab").mkdir()
    (tmp_path / "drawings" / "0123456789ab" / "drawing.json").write_text('{"id": "01')
    (again,) = DrawQueue(tmp_path, free).drawings()
    assert (again.id, again.prompt, again.size, again.state) == (drawing.id, "a boat", [64, 64], "stopped")
    assert again.why == "the studio ended meanwhile"
    queue.cancel(drawing.id)
    assert drawing.why == "taken off the queue"
    for cell in ("../x", "source-0/..", "0-0", ""):
        with pytest.raises(StudioRefused):
            queue.picture(drawing.id, cell)
    queue.forget(drawing.id)
    assert not queue.drawings()


def test_the_oldest_drawings_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = DrawQueue(tmp_path, free)
    queue._thread = object()  # type: ignore[assignment]  # nobody draws
    old, new = (queue.ask(prompt, [], [0], None, [POCKET], allowed=False).id for prompt in ("old", "new"))
    (tmp_path / "drawings" / old / "0-0.png").write_bytes(b"x" * 5000)
    monkeypatch.setattr(draw_queue, "MOST_BYTES", 4000)
    assert [drawing.id for drawing in DrawQueue(tmp_path, free).drawings()] == [new]
    assert not (tmp_path / "drawings" / old).exists()


def test_models_leave_memory_with_their_process(tmp_path: Path) -> None:
    """After a while without a drawing; and a process that is killed takes its drawing along, and nothing else."""
    queue = DrawQueue(tmp_path, free, "cpu")
    queue.idle_seconds = 0.2
    gone = DrawColumn("x", "gone", "", "nowhere")
    try:
        first = queue.ask("a boat", [], [0], None, [gone], allowed=False)
        wait_for(lambda: first.state == "done")
        assert "no model at 'nowhere'" in first.faults["0"]
        wait_for(lambda: not queue.is_loaded)
        second = queue.ask("a boat", [], [0], None, [POCKET], allowed=False)
        wait_for(lambda: second.state == "drawing" and queue.is_loaded)
        assert queue._process is not None
        queue._process.kill()
        wait_for(lambda: second.state == "stopped")
        assert "ended by signal 9; the machine may have run out of memory" in second.why
        third = queue.ask("a boat", [], [0], None, [gone], allowed=False)
        wait_for(lambda: third.state == "done")
    finally:
        queue.end()


def wait_for(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 120  # a machine under load is no failure
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_photos_are_pictures(tmp_path: Path) -> None:
    picture = Image.new("RGB", (30, 20), "teal")
    exif = picture.getexif()
    exif[0x0112] = 6  # turned by a quarter
    exif[0x010F] = "a camera"
    stream = io.BytesIO()
    picture.save(stream, "JPEG", exif=exif)
    name, size = keep_photo(tmp_path, stream.getvalue())
    assert size == (30, 20), "upright"
    with Image.open(photo_path(tmp_path, name)) as kept:
        assert not kept.getexif()
    for wrong in (b"", b"no picture", stream.getvalue()[:200]):
        with pytest.raises(StudioRefused):
            keep_photo(tmp_path, wrong)
    with pytest.raises(StudioRefused):
        photo_path(tmp_path, "../../etc/passwd")
    assert [path.suffix for path in tmp_path.iterdir()] == [".png"]


def test_a_suite_of_ones_own(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.new("RGB", (64, 64), "teal").save(photo)
    mine = MySuite(tmp_path)
    with pytest.raises(StudioRefused, match="no case yet"):
        mine.freeze()
    assert mine.keep("a boat", [], 3, (64, 64)) == 1
    assert mine.keep("make it night", [photo], 4, None) == 2
    with pytest.raises(StudioRefused, match="already"):
        mine.keep("a boat", [], 9, None)
    t2i, edit = mine.freeze()
    assert (t2i.name, edit.name) == ("t2i-1", "edit-1")
    assert read_suite(t2i).questions[0].case.size((1, 1)) == (64, 64)
    assert mine.freeze() == [t2i, edit], "a suite is frozen; the same cases are the same suite"
