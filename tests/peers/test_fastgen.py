"""The gradient of distribution matching, ours and that of NVIDIA Model-Optimizer fastgen, from the same draws."""

from importlib.util import find_spec

import pytest

from benchmarks.fastgen import STEPS, gradient_difference

needs_peer = pytest.mark.skipif(
    find_spec("modelopt") is None, reason="nvidia-modelopt is not installed: pip install 'fewstep[peers]'"
)


@needs_peer
@pytest.mark.filterwarnings("ignore")  # of the peer about itself
@pytest.mark.parametrize("k", range(STEPS))
def test_the_student_gets_the_same_gradient(k: int) -> None:
    assert gradient_difference(k) < 1e-5
