"""How long `fewstep plan` takes: two versions in turns, each with an empty cache and again with what it kept.

Seconds are processor seconds of the whole command, imports included: they depend less on what else a machine does.

python benchmarks/planning.py OLD/src NEW/src [RECIPE ...] [--rounds 3]
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("recipes", nargs="*", default=["qwen-image-2.1"])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    for recipe in given.recipes:
        taken: dict[tuple[str, str], list[float]] = defaultdict(list)
        for _ in range(given.rounds):
            for side in ("old", "new"):
                with tempfile.TemporaryDirectory() as cache:
                    for when in ("cold", "again"):
                        taken[side, when].append(seconds(getattr(given, side), recipe, cache))
        for when in ("cold", "again"):
            old, new = taken["old", when], taken["new", when]
            ratio = median(n / o for n, o in zip(new, old, strict=True))
            print(
                f"{recipe}, {when}: old {min(old):.1f} (median {median(old):.1f}), new {min(new):.1f} "
                f"(median {median(new):.1f}) CPU s; new / old {min(new) / min(old):.2f}, median of pairs {ratio:.2f}"
            )


def seconds(source: Path, recipe: str, cache: str) -> float:
    """Processor seconds of one plan by the package in `source`."""
    own = {"PYTHONPATH": str(source.resolve()), "FEWSTEP_CACHE": cache, "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "fewstep", "plan", recipe], check=True, capture_output=True, env=os.environ | own
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
