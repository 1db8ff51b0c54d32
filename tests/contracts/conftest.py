"""Backbones are made once; a test that changes one makes its own."""

from functools import cache

import pytest
from specimens import BACKBONES, FAMILIES, Family

from fewstep.backbones.backbone import Backbone

_made = cache(lambda index: BACKBONES[index][1]())


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
