"""What the prefix cache saves in a 4-step rollout: both ways interleaved in one process, minimum and median.

python benchmarks/prefix_cache.py [MODEL] [--batch 64] [--repeats 15] [--precision bf16]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from PIL import Image

from fewstep.backbones.conditioning import Conditioning, stack
from fewstep.backbones.families import load_backbone
from fewstep.flow.sigmas import SigmaGrid
from fewstep.flow.solver import trajectory
from fewstep.runtime.device import autocast

GRID = SigmaGrid.static(4, 3.0)
PROMPTS = {
    "t2i": 'A sign shaped as a board painted red with white letters reading "HEY" before a teal wall.',
    "edit": "Show the person in a blue shirt",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="pocket")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--precision", default="bf16", choices=["bf16", "fp32"])
    options = parser.parse_args()
    backbone = load_backbone(options.model, dtype=torch.float32)
    size = (options.side, options.side)
    print(f"{options.model}, batch {options.batch}, {options.precision}, {torch.get_num_threads()} threads")
    for task, prompt in PROMPTS.items():
        references = [Image.new("RGB", size, "teal")] if task == "edit" else None
        cond = stack(backbone.encode([prompt], references, size) * options.batch)
        plain, cached = rollouts(backbone, cond, options.precision)
        report(task, *interleaved(plain, cached, options.repeats))


def rollouts(backbone, cond: Conditioning, precision: str) -> tuple[Callable[[], None], Callable[[], None]]:  # type: ignore[no-untyped-def]
    noise_BND = torch.randn(len(cond), *backbone.noise_shape(cond.layout))

    def walk(use_prefix: bool) -> None:
        with torch.no_grad(), autocast(noise_BND.device, precision):
            prefix = backbone.prefix(backbone.transformer, cond) if use_prefix else None
            trajectory(lambda z, t: backbone.velocity(backbone.transformer, z, t, cond, prefix), noise_BND, GRID)

    return lambda: walk(False), lambda: walk(True)


def interleaved(a: Callable[[], None], b: Callable[[], None], repeats: int) -> tuple[list[float], list[float]]:
    times: tuple[list[float], list[float]] = ([], [])
    for i in range(repeats + 1):
        for side, run in zip(times, (a, b), strict=True):
            start = time.perf_counter()
            run()
            if i:  # the first pair warms up
                side.append(time.perf_counter() - start)
    return times


def report(task: str, plain: list[float], cached: list[float]) -> None:
    ratios = [c / p for p, c in zip(plain, cached, strict=True)]
    print(
        f"{task:5} without {1e3 * min(plain):.0f} ms (median {1e3 * statistics.median(plain):.0f}), "
        f"with {1e3 * min(cached):.0f} ms (median {1e3 * statistics.median(cached):.0f}); "
        f"ratio of minima {min(cached) / min(plain):.2f}, median of paired ratios {statistics.median(ratios):.2f}"
    )


if __name__ == "__main__":
    main()
