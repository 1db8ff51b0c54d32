"""Whether bf16 pays on a CPU is measured, without a trace in the process that measures it."""

import torch

from fewstep.runtime.cpu_bfloat16 import bf16_against_fp32


def test_it_leaves_the_generator_and_the_threads_as_they_are() -> None:
    bf16_against_fp32.cache_clear()
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    assert bf16_against_fp32() > 0
    assert torch.get_rng_state().equal(state)
    assert torch.get_num_threads() == threads
