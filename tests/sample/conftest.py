"""One tiny backbone for all tests of sampling: nothing here changes it."""

import pytest

from fewstep.backbones.qwen_image_21 import QwenImage21


@pytest.fixture(scope="session")
def backbone() -> QwenImage21:
    return QwenImage21.tiny()
