"""What is told of hardware without torch agrees with torch."""

import sys

import pytest
import torch

from fewstep.runtime.hardware import cuda_driver, processor_model


def test_torch_finds_no_gpu_that_the_driver_does_not() -> None:
    told = cuda_driver()
    assert not torch.cuda.is_available() or (told[0] == 0 and told[1] == torch.cuda.device_count())
    assert cuda_driver() == told


@pytest.mark.skipif(sys.platform != "linux", reason="known on Linux alone")
def test_a_processor_is_known_by_its_model_and_its_instructions() -> None:
    told = processor_model()
    assert {"model name", "CPU part"} & told.keys()
    assert {"flags", "Features"} & told.keys()
    assert "cpu MHz" not in told, "which changes from second to second"
