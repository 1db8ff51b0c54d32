"""A report of 3,300 cases and three systems, judged twice: how large its folder is, and how fast Chromium opens it.

PYTHONPATH=. python benchmarks/report.py [FOLDER] [--t2i 1800] [--edit 1500] [--opens 5]

1,800 text-to-image cases and 1,500 edits, as many as the paper's two benchmarks hold. The galleries share one small
picture, so that the folder's size is that of everything else. Prompts have 400 characters, verdicts about 300.
"""

import argparse
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from fewstep.bench.report.build import build_report
from fewstep.bench.report.pictures import PictureMode
from tests.bench.report_galleries import Made, gallery, suite
from tests.browser import Browser, binary

SYSTEMS = {"teacher": 4.1, "student": 4.0, "rival": 3.4}
MARKS = {
    "DOM ready": "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd",
    "first paint": "performance.getEntriesByType('paint')[0].startTime",
    "cases drawn": "Number(document.documentElement.dataset.drawn)",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--t2i", type=int, default=1800)
    parser.add_argument("--edit", type=int, default=1500)
    parser.add_argument("--opens", type=int, default=5)
    options = parser.parse_args()
    with TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        galleries = _galleries(folder, {"t2i": options.t2i, "edit": options.edit})
        for keep in (PictureMode.NONE, PictureMode.COPIED):
            _measure(galleries, folder / f"report-{keep}", keep, options.opens)


def _galleries(folder: Path, cases: dict[str, int]) -> list[Path]:
    suites = {task: suite(folder / f"suite-{task}", task, n, prompts=_prompts(n)) for task, n in cases.items() if n}
    return [
        gallery(folder / f"{name}-{task}", of, Made(name, quality, pictures=False, wordy=3))
        for task, of in suites.items()
        for name, quality in SYSTEMS.items()
    ]


def _prompts(cases: int) -> dict[int, str]:
    """Of 400 characters, each another."""
    return {
        i: (f"Case {i}: " + "a harbour at dusk with small boats, ropes and a lamp, " * 8)[:400] for i in range(cases)
    }


def _measure(galleries: list[Path], to: Path, keep: PictureMode, opens: int) -> None:
    begun_s = time.perf_counter()
    page = build_report(galleries, to, keep=keep)
    print(f"pictures {keep}: written in {time.perf_counter() - begun_s:.1f} s")
    sizes = {path.name: path.stat().st_size for path in to.iterdir() if path.is_file()}
    print(f"  {sum(sizes.values()) / 1e6:.1f} MB: " + ", ".join(f"{n} {b / 1e6:.2f}" for n, b in sizes.items()))
    if binary() is None:
        print("  no Chromium here: not opened")
        return
    times: dict[str, list[float]] = {name: [] for name in MARKS}
    for _ in range(opens):  # a new profile each time: nothing is cached
        with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            browser = Browser(Path(profile))
            browser.look(1280, 900, dark=False)
            browser.open(page.resolve().as_uri())
            for name, mark in MARKS.items():
                times[name].append(browser.js(mark))
            browser.close()
    for name, found in times.items():
        print(f"  {name}: median {statistics.median(found):.0f} ms, longest {max(found):.0f} ms of {opens}")


if __name__ == "__main__":
    main()
