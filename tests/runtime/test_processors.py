"""A run on a CPU says when other work slows it down."""

import subprocess
import sys
import time

import psutil
import pytest

from fewstep.runtime.processors import BusyWatch, OthersLoad

SPIN = "import time\nend = time.monotonic() + 20\nwhile time.monotonic() < end: pass"


def test_own_work_is_no_other_s() -> None:
    load, end_s = OthersLoad.begin(), time.monotonic() + 0.3
    while time.monotonic() < end_s:
        pass
    assert 0 <= load.share() <= 1 - 0.5 / (psutil.cpu_count() or 1) / 4


def test_it_is_said_once_that_the_machine_is_busy_and_once_that_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    watch = BusyWatch(said.append, first_s=0.0, every_s=0.0)
    shares = iter([0.1, 0.3, 0.9, 0.2, 0.11, 0.1])
    monkeypatch.setattr(OthersLoad, "share", lambda self: next(shares))
    for _ in range(6):
        watch.look()
    assert [line.split(":")[0] for line in said] == ["this machine is busy", "this machine is quiet again"]


def test_before_its_time_nothing_is_measured() -> None:
    said: list[str] = []
    BusyWatch(said.append, first_s=60.0).look()
    assert said == []


def test_others_that_are_busy_are_seen() -> None:
    others = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(psutil.cpu_count() or 1)]
    try:
        time.sleep(0.3)
        load = OthersLoad.begin()
        time.sleep(0.5)
        assert load.share() > 0.5
    finally:
        for other in others:
            other.kill()
            other.wait()
