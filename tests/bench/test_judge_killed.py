"""kill -9 in the middle of a pass, again and again: nothing lost, nothing that was answered asked again."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from fewstep.bench.verdict import read_verdicts
from fewstep.runtime import durable
from tests.bench.judged_gallery import gallery, judge_file, rated
from tests.endpoint.fault_server import Call, FaultServer, says

CASES, KILLS, CONCURRENCY = 300, 3, 6


def prompt_of(call: Call) -> str:
    return call.texts().split("Prompt:\n<")[1].split("\n")[1]


def recorded(folder: Path) -> list[tuple[str, int]]:
    """Case and repeat of every attempt on disk."""
    lines = durable.read_jsonl(folder / "verdicts" / "seer.attempts.jsonl")
    return [(str(line["case"]), int(line["repeat"])) for line in lines]


def started(folder: Path, file: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "fewstep", "judge", "run", str(folder), "--judge", str(file)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def killed_after(folder: Path, file: Path, lines: int) -> None:
    """One run of the command, killed once it has recorded so many answers more."""
    process, goal = started(folder, file), len(recorded(folder)) + lines
    until = time.monotonic() + 600
    while len(recorded(folder)) < goal:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def test_kill_9_loses_nothing_and_asks_nothing_again(tmp_path: Path) -> None:
    folder = gallery(tmp_path / "g", cases=CASES, side=8)
    with FaultServer(says(rated(), pause=0.004)) as server:
        file = judge_file(tmp_path, server, concurrency=CONCURRENCY)
        for _ in range(KILLS):
            known, calls = {case for case, _ in recorded(folder)}, len(server.calls)
            killed_after(folder, file, 60)
            again = {f"c{int(prompt_of(call).split()[-1]):05d}" for call in server.calls[calls:]} & known
            assert not again, "these had an answer on disk"
        last = started(folder, file)
        _, errors = last.communicate(timeout=600)
        assert last.returncode == 0, errors.decode()
    attempts = recorded(folder)
    assert len(attempts) == CASES == len(set(attempts)), "an answer is there twice, or not at all"
    assert len(read_verdicts(folder)["seer"]) == CASES
    asked = Counter(map(prompt_of, server.calls))
    assert len(asked) == CASES
    assert sum(asked.values()) - CASES <= KILLS * CONCURRENCY, "more than what was under way when it was killed"
