"""What measuring costs: flat_noise on one large picture, and the whole examination of 200 pocket pictures.

python benchmarks/metrics.py [--pictures 200] [--side 128] [--workers 2] [--repeats 5]
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from fewstep.bench import gallery, measuring
from fewstep.bench.metrics.by_name import METRICS, metrics_named
from fewstep.bench.metrics.flat_noise import flat_noise
from fewstep.bench.suite import Suite
from fewstep.bench.suites import copy_into_gallery, open_suite
from fewstep.pocket.judge import judge, pocket_case
from fewstep.pocket.render import render


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    large(options.repeats)
    with tempfile.TemporaryDirectory() as folder:
        examination(Path(folder), options.pictures, options.side, options.workers)


def large(repeats: int) -> None:
    """1024 x 1024 px, flat but for a patch of texture: the most work there is."""
    rng = np.random.default_rng(0)
    pixels = np.clip(np.round(200 + rng.normal(0, 1, (1024, 1024, 3))), 0, 255).astype(np.uint8)
    pixels[300:600, 300:600] = rng.integers(0, 255, (300, 300, 3))
    flat_noise(pixels)
    wall, cpu = zip(*(timed(lambda: flat_noise(pixels)) for _ in range(repeats)), strict=True)
    print(f"flat_noise, 1024 x 1024: {statistics.median(wall):.2f} s ({statistics.median(cpu):.2f} s of one core)")


def examination(folder: Path, pictures: int, side: int, workers: int) -> None:
    """Half prompts, half edits; what is examined are the exact answers with noise."""
    total = 0.0
    for task in ("t2i", "edit"):
        suite = open_suite(f"pocket-{task}@{pictures // 2}")
        place = drawn(suite, folder / task, side)
        probe, _ = timed(lambda place=place: judge(place))  # type: ignore[misc]
        print(f"{task}: probe {probe:.1f} s")
        if workers == 1:
            for name in METRICS.names():
                print(f"  {name:10} {timed(lambda place=place, n=name: measured(place, 1, n))[0]:.1f} s")  # type: ignore[misc]
        wall, _ = timed(lambda place=place: measured(place, workers))  # type: ignore[misc]
        print(f"{task}: all metrics, {workers} processes {wall:.1f} s")
        total += probe + wall
    cpu = sum(os.times()[:4])
    print(f"{pictures} pictures of {side} px, probe and all metrics: {total:.1f} s ({cpu:.1f} s of one core, all told)")


def measured(place: Path, workers: int, *names: str) -> None:
    measuring.run_metrics(place, metrics_named(list(names)), workers)
    if names:
        (place / "metrics" / f"{names[0]}.jsonl").unlink()


def drawn(suite: Suite, place: Path, side: int) -> Path:
    rng = np.random.default_rng(0)
    made = gallery.begin_gallery(place, "exact", suite.identity, {}, "adopted")
    copy_into_gallery(suite, place)
    for question in suite.questions:
        for k, seed in enumerate(question.seeds):
            case = pocket_case(suite, question)
            exact = case.target if case.task == "edit" else render(case.scene)
            exact = exact.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
            noisy = np.clip(np.asarray(exact) + rng.normal(0, 1, (side, side, 3)), 0, 255).astype(np.uint8)
            facts = {"k": k, "task": question.case.task, "category": question.case.category}
            made.add(question.case.id, seed, Image.fromarray(noisy), facts | {"seconds": {"denoise": 0.1}, "nfe": 4})
    return place


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main()
