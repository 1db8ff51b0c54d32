"""The pocket pipeline with random weights."""

import pytest

from fewstep.pocket import build


@pytest.fixture(scope="module")
def pipeline() -> build.QwenImage21Pipeline:
    return build.build_pocket_pipeline(0)
