"""Whether bf16 pays on this CPU.

Where a CPU has instructions for bf16 (AMX, AVX512-BF16, those of newer ARM cores), torch's products in it may take half
to a quarter of fp32's time. Where it has none, torch computes them all the same, and an iteration of the pocket recipe
takes 1.2 to 2.4 times as long as in fp32. The names of the instructions do not decide it. torch's own check is true for
every AVX-512. And AVX512-BF16 takes 0.28 of fp32's time on a Zen 5, but 1.7 to 2 times as long on an Intel Xeon whose
AMX the virtual machine hides. So it is measured.
"""

import time
from functools import cache

import torch
from torch import Tensor

ROWS, WIDTH = 1024, 256  # ours: tokens of a batch, and the width of the pocket model
REPEATS = 5
PAYS_BELOW = 0.9  # ours: at 0.28 an iteration of the pocket recipe takes 0.49 of its time in fp32, at 1.25 1.22


@cache
def bf16_against_fp32() -> float:
    """Seconds of a linear layer with its backward pass in bf16, over those in fp32; measured once, in about 0.2 s.

    The processor's seconds of this thread are compared, not those of a clock, and the least of some repeats, so other
    work on the machine changes little.
    """
    x_ND = torch.linspace(-1, 1, ROWS * WIDTH).view(ROWS, WIDTH)  # no draw: the global generator stays as it is
    w_HD = torch.linspace(-1, 1, 4 * WIDTH * WIDTH).view(4 * WIDTH, WIDTH).requires_grad_()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for dtype in (torch.bfloat16, torch.float32):
            _seconds(x_ND, w_HD, dtype)  # kernels are chosen at the first call
        pairs = [[_seconds(x_ND, w_HD, dtype) for dtype in (torch.bfloat16, torch.float32)] for _ in range(REPEATS)]
    finally:
        torch.set_num_threads(threads)
    bf16_s, fp32_s = (min(seconds) for seconds in zip(*pairs, strict=True))
    return bf16_s / fp32_s


def fast_bfloat16() -> bool:
    """Whether this CPU computes in bf16 faster than in fp32."""
    return bf16_against_fp32() < PAYS_BELOW


def _seconds(x_ND: Tensor, w_HD: Tensor, dtype: torch.dtype) -> float:
    begun_s = time.thread_time()
    with torch.enable_grad(), torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32, cache_enabled=False):
        made_NH = torch.nn.functional.linear(x_ND, w_HD)
        torch.autograd.grad(made_NH, w_HD, torch.ones_like(made_NH))
    return time.thread_time() - begun_s
