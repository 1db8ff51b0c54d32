"""How long the studio takes to open a long run, and what 50 viewers of a living run cost.

PYTHONPATH=. python benchmarks/studio.py [--lines 100000] [--pictures 2000] [--viewers 50] [--seconds 20]

Makes a run of 100,000 lines of metrics and 2,000 pictures of 512 px, starts the studio in a process of its own with an
empty cache, and prints seconds of the first answers and, where Chromium is installed, until pictures and curves are
drawn. Then lines are appended while 50 pages listen: the studio's CPU time beside the wall clock is what a training on
the same core would lose.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
import psutil
from PIL import Image

from fewstep.run.self_exam.exam_cases import frozen_set
from tests.browser import Browser, binary
from tests.run.studio.small_runs import append, small_run, training_line

CASES, SIDE = 20, 512
FURTHER = {f"figure_{n}": 0.123456789 for n in range(20)}  # as many numbers as a real line has


def long_run(folder: Path, lines: int, pictures: int) -> Path:
    small_run(folder, f"run.iterations={2 * lines}", trained=20)
    append(folder, *(training_line(i, **FURTHER) for i in range(20, lines)))
    chance = np.random.default_rng(0)
    for case in range(CASES):
        low = Image.fromarray(chance.integers(0, 255, (16, 16, 3), np.uint8))
        picture = low.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        first = folder / "samples" / "pictures" / f"teacher-{case:02d}.png"
        picture.save(first)
        for moment in range(pictures // CASES):
            place = first.with_name(f"student-{moment * (lines // (pictures // CASES)):06d}-{case:02d}.png")
            with contextlib.suppress(FileExistsError):
                os.link(first, place)
    assert frozen_set(folder) is not None
    return folder


@contextlib.contextmanager
def studio(root: Path, cache: Path) -> Iterator[tuple[str, psutil.Process]]:
    words = [sys.executable, "-m", "fewstep", "studio", str(root), "--port", "0"]
    environment = {**os.environ, "FEWSTEP_CACHE": str(cache), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split("at ")[1].split(",")[0]
        while True:
            with contextlib.suppress(httpx.TransportError):
                httpx.get(address, timeout=10)
                break
        try:
            yield address.rstrip("/"), psutil.Process(process.pid)
        finally:
            begun = time.perf_counter()
            process.terminate()
            process.wait(30)
            print(f"ends {time.perf_counter() - begun:.2f} s after SIGTERM")


def answers(address: str) -> None:
    for path in ("/api/runs/list", "/api/run/page?run=long", "/api/run/curves?run=long"):
        begun = time.perf_counter()
        answer = httpx.get(f"{address}{path}", timeout=120)
        print(f"{path:28} {time.perf_counter() - begun:6.2f} s, {len(answer.content) / 1000:,.0f} kB")


def browser(address: str, folder: Path) -> None:
    if binary() is None:
        print("no Chromium on this machine: what a page takes is not measured")
        return
    tab = Browser(folder / "profile")
    tab.look(1280, 900, dark=False)
    tab.open(f"{address}/")
    tab.until("document.querySelector('.runs tbody tr')")
    begun = time.perf_counter()
    tab.js("location.hash = '#/run?run=long'")
    tab.until("[...document.querySelectorAll('.tile img')].some((i) => i.complete && i.naturalWidth)")
    print(f"first picture                {time.perf_counter() - begun:6.2f} s")
    tab.until("document.querySelectorAll('.chart').length > 6")
    print(f"curves drawn                 {time.perf_counter() - begun:6.2f} s")
    tab.until("document.querySelectorAll('.chart').length > 6 && document.querySelector('main section p.soft[hidden]')")
    print(f"curves of all lines          {time.perf_counter() - begun:6.2f} s")
    tab.close()


def viewers(address: str, process: psutil.Process, run: Path, count: int, seconds: float, first: int) -> None:
    """CPU of the studio with and without viewers, while two lines a second are appended."""

    def listen(heard: list[int]) -> None:
        with (
            contextlib.suppress(httpx.HTTPError),
            httpx.stream("GET", f"{address}/api/events?run=long", timeout=60) as s,
        ):
            for part in s.iter_bytes():
                heard.append(len(part))

    heard: list[list[int]] = [[] for _ in range(count)]
    threads = [threading.Thread(target=listen, args=(each,), daemon=True) for each in heard]
    for thread in threads:
        thread.start()
    time.sleep(4)
    before, begun = process.cpu_times(), time.perf_counter()
    for step in range(round(2 * seconds)):
        append(run, training_line(first + step, **FURTHER))
        time.sleep(0.5)
    after, wall = process.cpu_times(), time.perf_counter() - begun
    spent = after.user + after.system - before.user - before.system
    kilobytes = np.mean([sum(each) for each in heard]) / 1000
    print(f"{count} viewers for {wall:.0f} s: {100 * spent / wall:.2f} % of a core, {kilobytes:.0f} kB to each")
    print(f"memory of the studio         {process.memory_info().rss / 2**20:,.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--pictures", type=int, default=2_000)
    parser.add_argument("--viewers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20)
    given = parser.parse_args()
    with TemporaryDirectory() as place:
        folder = Path(place)
        run = long_run(folder / "runs" / "long", given.lines, given.pictures)
        print(f"{given.lines:,} lines, {(run / 'metrics.jsonl').stat().st_size / 1e6:.0f} MB")
        with studio(folder / "runs", folder / "cache") as (address, _):
            answers(address)
        with studio(folder / "runs", folder / "cache2") as (address, process):
            browser(address, folder)
            viewers(address, process, run, given.viewers, given.seconds, given.lines)


if __name__ == "__main__":
    main()
