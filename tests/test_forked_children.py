"""Children that are killed hold nothing that others wait for, and none of them is waited for without end."""

import os
import signal
import time

import pytest
from tqdm import tqdm

from tests import processes
from tests.processes import child_process, forked, wait_until


def test_a_child_that_is_killed_while_it_draws_a_bar_stops_no_other() -> None:
    reading, writing = os.pipe()

    def hold() -> None:
        with tqdm.get_lock():
            os.write(writing, b"held")
            time.sleep(60)

    with child_process(hold):
        assert os.read(reading, 4) == b"held"
    assert tqdm.get_lock().acquire(blocking=False)
    tqdm.get_lock().release()


def test_a_child_that_is_stuck_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STUCK_S", 1)
    child = forked(lambda: time.sleep(60))
    wait_until(lambda: os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGALRM


@pytest.mark.parametrize(("work", "code"), [(lambda: 3, 0), (lambda: 1 / 0, 1)])
def test_a_child_exits_as_its_work_ends(work: object, code: int) -> None:
    assert os.waitstatus_to_exitcode(os.waitpid(forked(work), 0)[1]) == code  # type: ignore[arg-type]


def test_a_child_that_ended_by_itself_was_not_killed() -> None:
    with pytest.raises(AssertionError, match="it had ended"), child_process(lambda: None) as child:
        wait_until(lambda: os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT))
