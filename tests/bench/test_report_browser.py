"""The report in a real Chromium, opened from the file system: filters, keys, the difference picture, phone and dark."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageStat

from fewstep.bench.report.build import build_report
from tests.bench.report_galleries import Made, gallery, suite
from tests.browser import Browser, binary

pytestmark = pytest.mark.skipif(binary() is None, reason="no Chromium on this machine (apt-get install chromium)")
CASES = 50
SAME = 2  # the case that both systems answered with one picture
EVIL = "<img src=x onerror=document.title='run'> paint a wall"
ROWS = "document.querySelectorAll('#case-list > li').length"
OPEN = "document.getElementById('case').open"
IDS = "[...document.querySelectorAll('#case-list small')].map((s) => s.textContent.split(' · ')[0])"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    edits = suite(folder / "edit", "edit", CASES, prompts={0: EVIL})
    made = [
        Made("teacher", 4.2, size=64),
        Made("student", 4.0, size=64, failures={7: "the sampler returned NaN"}, refused=(9,)),
    ]
    galleries = [gallery(folder / each.system, edits, each) for each in made]
    pictures = [each / "pictures" / f"{SAME:06d}.png" for each in galleries]
    pictures[1].write_bytes(pictures[0].read_bytes())
    written = build_report(galleries, folder / "r")
    return written.as_uri()


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def browser(tab: Browser, page: str) -> Iterator[Browser]:
    """The report, freshly opened at 1,280 x 900; nothing complained and nothing was loaded from outside."""
    tab.complaints.clear()
    tab.requests.clear()
    tab.look(1280, 900, dark=False)
    tab.open(page)
    yield tab
    assert not tab.complaints
    assert tab.js("document.title") != "run"
    assert not [address for address in tab.requests if not address.startswith(("file:", "about:"))]


def test_it_opens_at_once_with_a_page_of_cases(browser: Browser) -> None:
    assert browser.js(ROWS) == 20
    assert browser.js("document.getElementById('page-of').textContent") == f"Page 1 of {-(-CASES // 20)}"
    lazy = browser.js("[...document.querySelectorAll('#case-list img')].every((i) => i.loading === 'lazy')")
    assert lazy
    loaded = len([address for address in browser.requests if "/pictures/" in address])
    assert loaded < CASES  # of more than 2 x CASES pictures


def test_a_click_through_the_filters(browser: Browser) -> None:
    browser.choose("[name=category]", "text")
    texts = browser.js(IDS)
    assert 0 < len(texts) < 20
    browser.choose("[name=show]", "worst")
    browser.choose("[name=category]", "")
    worst = browser.js(IDS)
    assert len(worst) == 20
    scores = browser.js("[...document.querySelectorAll('#case-list .tile.mark b')].map((b) => Number(b.textContent))")
    assert scores == sorted(scores)
    browser.choose("[name=show]", "gaps")
    assert 0 < browser.js(ROWS) <= 20
    browser.choose("[name=show]", "failures")
    assert browser.js(IDS) == ["edit-0007", "edit-0009"]
    assert "NaN" in browser.js("document.getElementById('case-list').textContent")
    browser.click("#reset")
    browser.click("#page-on")
    assert browser.js("document.getElementById('page-of').textContent") == "Page 2 of 3"
    assert browser.js(IDS)[0] == "edit-0020"


def test_a_search_finds_prompts_and_judges_words(browser: Browser) -> None:
    browser.key("/")
    browser.write("boat number 12")
    assert browser.js(IDS) == ["edit-0012"]
    browser.key("Escape")
    assert browser.js("document.activeElement.name !== 'q' && document.querySelector('[name=q]').value === ''")
    browser.key("/")
    browser.write("repainted WITHOUT")
    assert browser.js("document.getElementById('case-count').textContent").endswith(f"of {CASES} pictures asked for")
    assert 0 < browser.js(ROWS) <= 20
    browser.write(" and nobody said this")
    assert browser.js("document.getElementById('case-count').textContent") == "Nothing fits these filters."


def test_keys_go_through_the_list_and_the_cases(browser: Browser) -> None:
    browser.key("/")
    browser.key("ArrowDown")
    browser.key("ArrowDown")
    browser.key("Enter")
    browser.until(OPEN)
    assert browser.js("document.getElementById('case-facts').textContent").startswith("edit-0001")
    browser.key("ArrowRight")
    browser.key("ArrowRight")
    browser.key("ArrowLeft")
    assert browser.js("document.getElementById('case-facts').textContent").startswith("edit-0002")
    browser.key("Escape")
    browser.until(f"!{OPEN}")
    # Focus goes back to the case's row once the dialogue has closed: a moment later on a busy machine.
    browser.until("document.activeElement.closest('li') === document.querySelectorAll('#case-list > li')[2]")


def test_a_link_to_a_case_opens_it(browser: Browser, page: str) -> None:
    browser.choose("[name=show]", "worst")
    first = browser.js(IDS)[0]
    browser.click("#case-list .strip")
    browser.until(OPEN)
    address = browser.js("location.href")
    browser.open(address)
    browser.until(OPEN)
    assert browser.js("document.getElementById('case-facts').textContent").startswith(first)
    assert browser.js("document.getElementById('case-at').textContent") == "1 of 20"
    words = browser.js("document.getElementById('case-words').textContent")
    assert all(phrase in words for phrase in ("teacher, the reference", "judge-a", "instruction following", "Metrics"))


def test_what_a_prompt_brings_along_stays_text(browser: Browser) -> None:
    browser.key("/")
    browser.write("onerror")
    assert browser.js("document.querySelector('#case-list .prompt').textContent") == EVIL
    browser.click("#case-list .strip")
    browser.until(OPEN)
    assert browser.js("document.getElementById('case-prompt').textContent") == EVIL


def test_the_difference_is_black_where_pictures_agree_and_not_elsewhere(
    browser: Browser, page: str, tmp_path: Path
) -> None:
    assert brightness(browser, page, SAME, "reference", tmp_path) == 0
    grain = brightness(browser, page, SAME + 1, "reference", tmp_path)
    assert 0 < grain < brightness(browser, page, SAME + 1, "source", tmp_path)  # a house elsewhere shows more


def brightness(browser: Browser, page: str, case: int, against: str, to: Path) -> float:
    """Mean level of a case's difference picture as it is on the screen."""
    browser.open(f"{page}#cases?case=edit-{case:04d}&against={against}&gain=1")
    browser.until(OPEN)
    browser.until("[...document.querySelectorAll('#case img')].every((i) => i.complete)")
    browser.js("document.querySelector('#case .difference').scrollIntoView({block: 'center'})")
    time.sleep(0.2)  # until it is painted
    box = browser.js(
        "(() => { const b = document.querySelector('#case .difference').getBoundingClientRect();"
        " return [b.left + 4, b.top + 4, b.right - 4, b.bottom - 4].map(Math.round); })()"
    )
    browser.screenshot(to / "shot.png")
    with Image.open(to / "shot.png") as shot:
        return float(ImageStat.Stat(shot.convert("L").crop(tuple(box))).mean[0])


def test_a_table_is_copied_or_offered(browser: Browser) -> None:
    browser.js("navigator.clipboard.writeText = () => Promise.reject(new Error('closed'))")
    browser.click("[data-copy='ranks.tex']")
    browser.until("document.getElementById('copied').open")
    selected = browser.js(
        "(() => { const a = document.querySelector('#copied textarea');"
        " return a.value.slice(a.selectionStart, a.selectionEnd); })()"
    )
    assert selected == browser.js("window.fewstepReport.copies['ranks.tex']")
    assert "\\toprule" in selected
    browser.key("Escape")
    browser.until("!document.getElementById('copied').open")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("fragment", ["", "#cases?case=edit-0001"])
def test_it_can_be_read_on_a_phone(browser: Browser, page: str, dark: bool, fragment: str) -> None:
    browser.look(390, 844, dark)
    browser.open(page + fragment)
    assert browser.js("document.documentElement.scrollWidth") == 390
    wide = (
        "[...document.querySelectorAll('body *')].filter((e) => !e.closest('.scroll, .skip, .hidden')"
        " && e.getBoundingClientRect().right > 391).map((e) => e.outerHTML.slice(0, 80))"
    )
    assert browser.js(wide) == []
    red, green, blue = browser.js("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (red + green + blue < 150) is dark


def test_a_case_fits_the_window(browser: Browser, page: str) -> None:
    browser.open(f"{page}#cases?case=edit-0001")
    browser.until(OPEN)
    box = browser.js(
        "(() => { const b = document.getElementById('case').getBoundingClientRect(); return [b.x, b.right]; })()"
    )
    assert 0 <= box[0] < box[1] <= 1280
