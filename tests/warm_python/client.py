"""Stands for a Python interpreter. See fixture.py; it runs alone, with the standard library."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

SECONDS = 300.0  # for the server's imports, on a busy machine


def verifying(words: list[str]) -> bool:
    """Whether a program of a verification is asked for."""
    return words[:2] == ["-m", "fewstep.backbones.stock_run"] or (
        bool(words) and os.path.basename(words[0]) == "card.py"
    )


def connected(python: str, server: str, place: str) -> socket.socket:
    """A connection to the server, which the first client starts."""
    end = time.monotonic() + SECONDS
    try:
        os.close(os.open(place + ".starts", os.O_CREAT | os.O_EXCL))
        nowhere = subprocess.DEVNULL  # else it would hold what this program's reader waits for the end of
        subprocess.Popen([python, server, place], start_new_session=True, stdin=nowhere, stdout=nowhere, stderr=nowhere)
    except FileExistsError:
        pass
    while True:
        asked = socket.socket(socket.AF_UNIX)
        try:
            asked.connect(place)
            return asked
        except OSError:
            asked.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def main(python: str, server: str, place: str) -> None:
    """python: the real interpreter. server: server.py. place: of its socket."""
    if not verifying(sys.argv[1:]):
        os.execv(python, [python, *sys.argv[1:]])
    told = {"words": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}
    with connected(python, server, place) as asked:
        socket.send_fds(asked, [b"."], [1, 2])
        asked.sendall(json.dumps(told).encode() + b"\n")
        status = int(asked.makefile().readline() or -signal.SIGKILL)
    if status < 0:
        os.kill(os.getpid(), -status)
    sys.exit(status)
