"""Seconds of a pocket iteration beside busy processes: with threads that sleep while they wait, as fewstep asks for,
and with threads that spin, as OpenMP does by default.

python benchmarks/busy.py [--neighbours 4] [--rounds 3] [--iterations 6] [--spinning]

Each figure is the least and the median over the iterations of all rounds, but the first two of each run, which choose
kernels. Quiet and busy runs take turns. A fair share beside N busy processes on P processors is 1 + N / P of the quiet
time.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

SPIN = "import time\nend = time.monotonic() + 1800\nwhile time.monotonic() < end: pass"
KERNELS_CHOSEN = 2  # iterations
LIBGOMP_SPINS = "300000"  # what libgomp does where nothing is asked for
SETTINGS = {
    "run.save_every_iterations": 1000,
    "run.sample_every_iterations": 0,
    "run.examine_every_iterations": 0,
    "run.best_by": "null",
    "data.t2i.0.source": "pocket:t2i:40",
    "data.edit.0.source": "pocket:edit:40",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--neighbours", type=int, default=4, help="busy processes beside the run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=6)
    parser.add_argument("--spinning", action="store_true", help="measure threads that spin too: slow")
    options = parser.parse_args()
    waits = {"sleeping": {}, **({"spinning": {"GOMP_SPINCOUNT": LIBGOMP_SPINS}} if options.spinning else {})}
    print(f"{os.cpu_count()} processors, {options.neighbours} busy processes beside", flush=True)
    with TemporaryDirectory() as scratch:
        taken: dict[tuple[str, int], list[float]] = {}
        for number in range(options.rounds):
            for how, environment in waits.items():
                for neighbours in (0, options.neighbours):
                    with busy(neighbours):
                        out = Path(scratch) / f"{how}-{neighbours}-{number}"
                        taken.setdefault((how, neighbours), []).extend(iterations(out, options.iterations, environment))
    for (how, neighbours), seconds in taken.items():
        quiet = taken[how, 0]
        ratio = min(seconds) / min(quiet), statistics.median(seconds) / statistics.median(quiet)
        print(
            f"{how}, {neighbours} beside: {min(seconds):.2f} s ({statistics.median(seconds):.2f}), "
            f"x {ratio[0]:.2f} ({ratio[1]:.2f}) of quiet"
        )


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes that do nothing but work."""
    begun = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in begun:
            process.kill()
            process.wait()


def iterations(out: Path, number: int, environment: dict[str, str]) -> list[float]:
    """Seconds of each iteration of a short run."""
    words = [f"--set={key}={value}" for key, value in {**SETTINGS, "run.iterations": number}.items()]
    command = [sys.executable, "-m", "fewstep", "distill", "pocket", "--out", str(out), *words]
    subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["seconds"]["iteration"] for line in lines if line["phase"] == "distil"][KERNELS_CHOSEN:]


if __name__ == "__main__":
    main()
