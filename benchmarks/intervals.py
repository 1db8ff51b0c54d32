"""How often 95 % intervals hold the truth: averages of category means, and paired differences, by simulation.

PYTHONPATH=. python benchmarks/intervals.py [--trials 3000]
"""

import argparse

from tests.bench.test_bootstrap import AVERAGE, SIZES, average_of, compare, holds, judged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=3000)
    trials = parser.parse_args().trials
    hits = dict.fromkeys(("average", "difference", *SIZES), 0)
    for trial in range(trials):
        scores = judged(50_000 + trial, {"a": 0.1, "b": 0.0}, judges=("A",))
        hits["average"] += holds(average_of({"b": scores["b"]}), AVERAGE)
        found = compare(scores["a"], scores["b"])
        hits["difference"] += holds(found.overall, 0.1)
        for category in SIZES:
            hits[category] += holds(found.categories[category], 0.1)
    for name, count in hits.items():
        cases = sum(SIZES.values()) if name not in SIZES else SIZES[name]
        print(f"{name:12} {cases:3} cases: {100 * count / trials:.1f} % of {trials:,} intervals hold the truth")


if __name__ == "__main__":
    main()
