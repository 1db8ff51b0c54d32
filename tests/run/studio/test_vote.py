"""Votes in a real browser: blind, by the keyboard, to an interval; nothing that was answered is lost."""

import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from fewstep.bench.pair_verdict import read_pairs
from fewstep.bench.suite import Suite
from fewstep.bench.votes import open_ballot
from fewstep.run.studio.screens.vote import VoteScreen
from fewstep.run.studio.studio import Studio
from tests.bench.plain_galleries import CASES, drawn, judged, picture
from tests.bench.plain_galleries import suite as suite  # a fixture
from tests.browser import Browser
from tests.run.studio.conftest import Served

COUNT = "document.querySelector('.vote-buttons').textContent"
READY = "document.querySelector('.vote-pair') && !document.querySelector('.vote-pair').classList.contains('waiting')"


@pytest.fixture
def galleries(suite: Suite, served: Served, request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """Two galleries of the studio's folder. They have a folder for each test, since a studio looks for new ones only
    every few seconds."""
    place = served.root / f"galleries-{request.node.name}"
    mine = drawn(suite, place / "mine", picture)
    return mine, drawn(suite, place / "other", lambda i, k: picture(i + 1, k))


def ballot_address(address: str, galleries: tuple[Path, Path], voter: str, more: str = "") -> str:
    a, b = (f"{folder.parent.name}/{folder.name}" for folder in galleries)
    return f"{address}/#/vote?a={a}&b={b}&voter={voter}{more}"


def test_a_vote_by_the_keyboard_to_its_interval(
    browser: Browser, served: Served, galleries: tuple[Path, Path], suite: Suite
) -> None:
    judged(suite, galleries[0], lambda i: 3.0)
    judged(suite, galleries[1], lambda i: 2.0)
    browser.open(ballot_address(served.address, galleries, "ann"))
    browser.until(READY)
    assert not any(name in browser.js("document.querySelector('main').textContent") for name in ("mine", "other"))
    for number, key in enumerate(["ArrowLeft", "ArrowRight", "ArrowDown", " ", *["ArrowLeft"] * 20]):
        browser.until(f"{READY} && {COUNT}.includes('{number} of 24')")
        if number == 6:
            browser.js("document.dispatchEvent(new KeyboardEvent('keydown', {key: 'u'}))")
            browser.until(f"{READY} && {COUNT}.includes('5 of 24')")
            browser.key("ArrowRight")
            browser.until(f"{READY} && {COUNT}.includes('6 of 24')")
        browser.key(key)
    browser.until("document.querySelector('.vote-verdict')")
    page = browser.js("document.querySelector('main').textContent")
    votes = read_pairs(galleries[0] / "pairs" / "other" / "human:ann.jsonl")
    assert [vote.won for vote in votes][:6] == ["first", "second", "tie", "tie", "first", "second"]
    assert len(votes) == 2 * CASES
    assert "24 of 24 pairs" in page
    assert "95 %" in page
    assert "human:ann" in page
    assert "probe" in page, "the judge of the single pictures"


def test_a_killed_studio_loses_no_vote(galleries: tuple[Path, Path], served: Served) -> None:
    """Two studios know nothing of each other; the second goes on where the first was when it vanished."""
    a, b = (f"{folder.parent.name}/{folder.name}" for folder in galleries)
    about = {"a": a, "b": b, "voter": "ben"}
    first = VoteScreen(served.studio)
    told = first.vote({**about, "pair": 0, "answer": "left", "seconds": 1.25})
    assert told["pair"]["number"] == 1
    second = VoteScreen(Studio(served.studio.places, served.studio.jobs))
    told = second.vote({**about, "pair": 1, "answer": "tie"})
    assert (told["voted"], told["pair"]["number"]) == (2, 2)
    assert first.undo(about)["pair"]["number"] == 1
    assert json.loads((galleries[0] / "pairs" / "other" / "human:ben.jsonl").read_text())["seconds"] == 1.2


def test_no_link_is_followed_out_of_a_gallery(galleries: tuple[Path, Path], served: Served, tmp_path: Path) -> None:
    ballot = open_ballot(*galleries, "eve")
    assert [status_of(served, galleries, side) for side in ("left", "right", "0", "../x")] == [200, 200, 400, 400]
    shown = ballot.picture(ballot.pairs[0], "left")
    shown.rename(tmp_path / "elsewhere.png")
    shown.symlink_to(tmp_path / "elsewhere.png")
    assert status_of(served, galleries, "left") == 403


def status_of(served: Served, galleries: tuple[Path, Path], side: str) -> int:
    a, b = (f"{folder.parent.name}/{folder.name}" for folder in galleries)
    query = urllib.parse.urlencode({"a": a, "b": b, "voter": "eve", "pair": 0, "side": side})
    try:
        with urllib.request.urlopen(f"{served.address}/api/vote/picture?{query}") as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def test_what_is_refused_is_a_sentence(browser: Browser, served: Served, galleries: tuple[Path, Path]) -> None:
    for voter, words in (("a b", "a voter"), ("ann", "no gallery")):
        address = ballot_address(served.address, galleries, voter).replace(
            "other&", "othr&" if voter == "ann" else "other&"
        )
        browser.open(address)
        browser.until(f"document.querySelector('.fault-page')?.textContent.includes({words!r})")
    browser.complaints.clear()  # the refusals' status


def test_the_choice_offers_what_answers_one_suite(
    browser: Browser, served: Served, galleries: tuple[Path, Path]
) -> None:
    browser.open(ballot_address(served.address, galleries, "dan"))  # a gallery that is new is looked for
    browser.until(READY)
    browser.open(f"{served.address}/#/vote")
    browser.until("document.querySelectorAll('select option').length >= 3")
    browser.js("document.querySelector('input[type=text]').focus()")
    browser.write("cleo")
    browser.key("Enter")
    browser.until(READY)
    assert "voter=cleo" in browser.js("location.hash")
