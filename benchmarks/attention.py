"""Attention over short sequences in bf16 on a CPU: plain products (`backbones/attention.py`) and torch's fused kernel.

For each shape: processor milliseconds of a forward, and of a forward with its backward, both ways in turns; and how far
each is from the answer in float64.

python benchmarks/attention.py [--repeats 40]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fewstep.backbones import attention
from fewstep.runtime.allocator import keep_freed_memory

# Batch, tokens, heads, channels of a head: the pocket recipe's batch and four of it, the peer benchmark's, longer ones.
SHAPES = ((16, 40, 4, 64), (64, 40, 4, 64), (2, 168, 6, 64), (2, 256, 6, 64), (1, 600, 8, 64))
Way = Callable[[Tensor, Tensor, Tensor], Tensor]


def stock(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attention.stock(query=q, key=k, value=v)


def timed(run: Callable[[], object]) -> float:
    begun = time.process_time()
    run()
    return 1e3 * (time.process_time() - begun)


def measure(shape: tuple[int, ...], ways: dict[str, Way], repeats: int) -> None:
    q, k, v = (torch.randn(shape).bfloat16().requires_grad_() for _ in range(3))
    weight = torch.randn(shape).bfloat16()

    def alone(way: Way) -> None:
        with torch.no_grad():
            way(q, k, v)

    def with_backward(way: Way) -> None:
        way(q, k, v).backward(weight)

    for what in (alone, with_backward):
        spent: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(repeats + 2):
            for name, way in ways.items():
                spent[name].append(timed(lambda what=what, way=way: what(way)))  # type: ignore[misc]
        ours, theirs = (times[2:] for times in spent.values())
        print(
            f"{shape} {what.__name__:13} products {min(ours):6.2f} ms (median {statistics.median(ours):.2f}), fused "
            f"{min(theirs):6.2f} ({statistics.median(theirs):.2f}); minima {min(ours) / min(theirs):.2f}"
        )
    with torch.no_grad():
        wide = (x.double().transpose(1, 2) for x in (q, k, v))
        exact = F.scaled_dot_product_attention(*wide).transpose(1, 2)
        far = {name: float((way(q, k, v).double() - exact).norm() / exact.norm()) for name, way in ways.items()}
    print(f"{shape} error         products {far['products']:.4f}, fused {far['fused']:.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=40)
    repeats = parser.parse_args().repeats
    keep_freed_memory()
    attention.MAX_KEYS = 10**9  # beyond where it is used, to see where it stops being of use
    for shape in SHAPES:
        measure(shape, {"products": attention.attention, "fused": stock}, repeats)


if __name__ == "__main__":
    main()
