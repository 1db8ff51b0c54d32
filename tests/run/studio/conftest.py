"""One browser and one studio for all tests of the screens. A screen's tests go into a file of their own."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fewstep.run.studio.studio import Studio
from tests.browser import Browser, binary
from tests.run.studio.served import studio_at
from tests.run.studio.small_runs import small_run


@dataclass(frozen=True)
class Served:
    """A studio on a real socket. root: the folder of its runs, to which tests may add."""

    address: str
    studio: Studio
    root: Path


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Holds `first`, stopped after 30 of 40 iterations, and `second`, which has ended."""
    root = tmp_path_factory.mktemp("studio") / "runs"
    small_run(root / "first", trained=30)
    small_run(root / "second", student=True)
    with studio_at(tmp_path_factory.mktemp("logs"), root) as (address, studio):
        yield Served(address, studio, root)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if binary() is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.open("about:blank#end")
    browser.close()


@pytest.fixture
def browser(chromium: Browser, served: Served) -> Iterator[Browser]:
    """The tab, at 1,280 x 900 in light colours. Afterwards: its console complained of nothing, nothing was asked of
    anywhere else, and no prompt ran."""
    chromium.complaints.clear()
    chromium.requests.clear()
    chromium.look(1280, 900, dark=False)
    yield chromium
    assert not chromium.complaints
    assert chromium.js("document.title") != "run"
    outside = [each for each in chromium.requests if not each.startswith((served.address, "about:", "blob:", "data:"))]
    assert not outside
