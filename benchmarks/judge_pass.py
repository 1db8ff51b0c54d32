"""A judge pass against a local server, killed (kill -9) again and again: what is lost, what is asked twice, how fast.

PYTHONPATH=. python benchmarks/judge_pass.py [--cases 10000] [--kills 20] [--concurrency 8] [--seed 0]
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from fewstep.bench.verdict import read_verdicts
from fewstep.runtime import durable
from tests.bench.judged_gallery import gallery, judge_file, rated
from tests.endpoint.fault_server import Call, FaultServer, says

ATTEMPTS = "verdicts/seer.attempts.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, FaultServer(says(rated())) as server:
        made = gallery(Path(folder) / "gallery", cases=options.cases, side=8)
        file = judge_file(Path(folder), server, concurrency=options.concurrency)
        print(f"{options.cases:,} pictures drawn; judging")
        began = time.monotonic()
        known_again = killed(made, file, server, options.cases, options.kills, random.Random(options.seed))
        subprocess.run(command(made, file), check=True, stdout=subprocess.DEVNULL)
        report(made, server, options.kills, known_again, time.monotonic() - began)


def command(folder: Path, file: Path) -> list[str]:
    return [sys.executable, "-m", "fewstep", "judge", "run", str(folder), "--judge", str(file)]


def killed(folder: Path, file: Path, server: FaultServer, cases: int, kills: int, rng: random.Random) -> int:
    """Starts and kills the command; how many questions were asked though their answer was on disk."""
    known_again = 0
    for number in range(kills):
        known, calls = recorded(folder), len(server.calls)
        process = subprocess.Popen(command(folder, file), stdout=subprocess.DEVNULL)
        goal = calls + rng.randint(1, 2 * (cases - len(known)) // (kills - number + 1) - 1)
        while len(server.calls) < goal and process.poll() is None:
            time.sleep(rng.uniform(0.001, 0.01))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        known_again += len({case_of(call) for call in server.calls[calls:]} & set(known))
    return known_again


def recorded(folder: Path) -> list[str]:
    return [str(line["case"]) for line in durable.read_jsonl(folder / ATTEMPTS)]


def case_of(call: Call) -> str:
    return f"c{int(call.texts().rpartition('prompt number ')[2].split()[0]):05d}"


def report(folder: Path, server: FaultServer, kills: int, known_again: int, seconds: float) -> None:
    lines, asked = recorded(folder), Counter(map(case_of, server.calls))
    verdicts = read_verdicts(folder)["seer"]
    print(f"killed {kills} times; {seconds:.0f} s, {len(lines) / seconds:.0f} answers a second, starts included")
    print(f"verdicts {len(verdicts):,}, of them ok {sum(v.status == 'ok' for v in verdicts):,}")
    print(f"answers recorded twice {len(lines) - len(set(lines))}, asked though recorded {known_again}")
    print(
        f"under way at a kill, hence asked twice {sum(asked.values()) - len(asked)} of {sum(asked.values()):,} requests"
    )


if __name__ == "__main__":
    main()
