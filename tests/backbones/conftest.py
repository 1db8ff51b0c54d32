"""Backbones are made once; a test that changes one makes its own."""

from functools import cache

import pytest

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.stock import pipeline_qwenimage_edit_plus
from tests.backbones.families import BACKBONES, FAMILIES, SIZE, Family, Request

CACHING = [family for family in FAMILIES if family.cache]

_made = cache(lambda index: BACKBONES[index][1]())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Edits are not asked of families that take fewer references."""
    takes = {family.name: family.references for family in FAMILIES}
    items[:] = [item for item in items if _asked_for(item) <= takes.get(_family_of(item), 99)]


def _asked_for(item: pytest.Item) -> int:
    asked = _params(item).get("asked")
    return len(asked.shapes) if isinstance(asked, Request) else 0


def _family_of(item: pytest.Item) -> str:
    params = _params(item)
    family, index = params.get("family") or params.get("caching"), params.get("backbone")
    return family.name if isinstance(family, Family) else BACKBONES[index][0] if isinstance(index, int) else ""


def _params(item: pytest.Item) -> dict[str, object]:
    called = getattr(item, "callspec", None)
    return called.params if called is not None else {}


@pytest.fixture(params=FAMILIES, ids=lambda f: f.name)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param


@pytest.fixture
def stock(family: Family) -> Backbone:
    """A family's tiny model of stock classes."""
    return _made(FAMILIES.index(family))


@pytest.fixture(params=range(len(BACKBONES)), ids=[name for name, _ in BACKBONES])
def backbone(request: pytest.FixtureRequest) -> Backbone:
    """Any backbone, the toy world included."""
    return _made(request.param)


@pytest.fixture(params=CACHING, ids=lambda f: f.name)
def caching(request: pytest.FixtureRequest) -> Family:
    """A family whose text and references do not depend on t."""
    return request.param


@pytest.fixture(autouse=True)
def small_references(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pipelines that resize references to an area of their own resize to the size that tests sample at."""
    monkeypatch.setattr(pipeline_qwenimage_edit_plus, "VAE_IMAGE_SIZE", SIZE[0] * SIZE[1])
    monkeypatch.setattr(pipeline_qwenimage_edit_plus, "CONDITION_IMAGE_SIZE", 64 * 64)
