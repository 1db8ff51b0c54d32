"""`fewstep studio` at the command line: what is refused, what it prints, and that it ends when it is told to."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.cli.command_line import fewstep, refused
from tests.run.studio.small_runs import small_run


def test_a_port_in_use_and_other_mistakes(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused(fewstep("studio", tmp_path, "--port", str(taken.getsockname()[1])), "cannot be listened at", "--port")
    refused(fewstep("studio", tmp_path, "--port", "0", "--host", "no.such.host.invalid"), "cannot be listened at")
    refused(fewstep("studio", tmp_path, "--port", "0", "--token", "short"), "--token is 8 to 200")
    (tmp_path / "file").write_text("")
    refused(fewstep("studio", tmp_path / "file", "--port", "0"), "is a file; give run folders")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_it_ends_while_a_page_listens(tmp_path: Path, number: int) -> None:
    """Two studios on one folder, one of them with a token; neither leaves anything in it."""
    run = small_run(tmp_path / "runs" / "one", trained=3)
    before = sorted(path.relative_to(run) for path in run.rglob("*"))
    words = [sys.executable, "-m", "fewstep", "studio", str(tmp_path / "runs"), "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "FEWSTEP_CACHE": str(tmp_path / "cache")}

    def started(*more: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*words, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    with started() as first, started("--token", "a-token-of-ours") as second:
        assert first.stdout is not None
        assert second.stdout is not None
        address, other = (re.findall(r"http://\S+?(?=,)", each.stdout.readline())[0] for each in (first, second))  # type: ignore[union-attr]
        assert other.endswith("/?token=a-token-of-ours")
        assert httpx.get(other.split("?")[0], timeout=60).status_code == 401
        assert httpx.get(other, timeout=60).status_code == 303
        with httpx.stream("GET", f"{address}api/events?run=one", timeout=60) as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith("retry")
            for each in (first, second):
                each.send_signal(number)
            list(lines)
        told = [each.communicate(timeout=60) for each in (first, second)]
        assert "Traceback" not in "".join(text for pair in told for text in pair)
        assert (first.returncode, second.returncode) in [(0, 0), (130, 130), (143, 143)]
    assert sorted(path.relative_to(run) for path in run.rglob("*")) == before
