"""Malformed inputs, generated anew: recipes, cases, LoRA files, model folders, galleries and arguments, each with one
thing wrong, and what the command line makes of them.

    python benchmarks/malformed.py [--seed 1] [--count 300] [--kinds recipe,cases] [--processes]

Counts tracebacks, silent acceptances (exit code 0, a refusal of something else, or a picture that was lost), seconds of
CPU until the answer, and what a refused command has written. Commands are given in this process, so their seconds are
without those of importing what they need. `--processes` gives each in a process of its own instead: its seconds hold
everything, and only exit codes, tracebacks and seconds are told. Exits with 1 where something was found.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import fewstep.run.launch  # noqa: F401 - here, so that no input pays for it
from tests.cli.attempts import Attempt, Verdict, contents, tried
from tests.cli.malformed_inputs import SHARES, inputs

LIMIT_S = 3.0  # of CPU, for a refusal


def in_a_process(attempt: Attempt, folder: Path) -> Verdict:
    """As `attempts.tried`. Words that no command line can carry are left out."""
    before, begun = contents(folder), os.times()
    words = [os.fsencode(word) for word in attempt.words]
    if any(b"\0" in word for word in words):
        return Verdict(attempt, 2, "", "", 0.0, (), "")
    command = [os.fsencode(sys.executable), b"-m", b"fewstep", *words]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=300)
        code, output = done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")
    except subprocess.TimeoutExpired:
        code, output = -1, "Traceback (most recent call last): it hangs"
    ended = os.times()
    cpu = ended.children_user + ended.children_system - begun.children_user - begun.children_system
    after = contents(folder) if code != 0 else before
    fault = "a traceback is printed" if "Traceback (most recent call last)" in output else ""
    written = tuple(path for path in after if after[path] != before.get(path))
    return Verdict(attempt, code, " ".join(output.split()), fault, cpu, written, "")


def told(verdicts: list[Verdict]) -> None:
    print(f"{'kind':<12}{'inputs':>7}{'codes':>24}{'faults':>8}{'accepted':>10}{'written':>9}{'CPU, most':>11}")
    for kind in [*SHARES, "all"]:
        held = [verdict for verdict in verdicts if kind in ("all", verdict.attempt.kind)]
        if not held:
            continue
        codes = " ".join(f"{code}:{n}" for code, n in sorted(Counter(v.code for v in held).items()))
        counts = (sum(bool(v.fault) for v in held), sum(v.accepted for v in held), sum(bool(v.written) for v in held))
        cells = f"{counts[0]:>8}{counts[1]:>10}{counts[2]:>9}{max(v.cpu for v in held):>9.2f} s"
        print(f"{kind:<12}{len(held):>7}{codes:>24}{cells}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--kinds", default=",".join(SHARES))
    parser.add_argument("--processes", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    verdicts: list[Verdict] = []
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fewstep-malformed-") as folder:
        for attempt, place in inputs(options.seed, options.count, Path(folder), options.kinds.split(",")):
            verdicts.append((in_a_process if options.processes else tried)(attempt, place))
    wrong = [verdict for verdict in verdicts if not verdict.passed or verdict.cpu > LIMIT_S]
    for v in wrong:
        why = v.fault or ("accepted" if v.accepted else f"wrote {v.written[:3]}" if v.written else f"{v.cpu:.1f} s")
        print(f"{v.attempt.kind}: {v.attempt.what}: code {v.code}, {why}: {v.output[:160]}")
    told(verdicts)
    print(f"seed {options.seed}: {len(verdicts)} inputs in {time.monotonic() - begun:.0f} s, {len(wrong)} findings")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
