"""Which process works in a run folder. The lock itself is never touched: even a shared one, for a moment, could refuse
a run that is just starting."""

import os
import re
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

from fewstep.run.studio.answers import StudioRefused

LOCKS = Path("/proc/locks")  # of Linux: kind, mode, process and inode of every lock


@dataclass(frozen=True)
class Holder:
    """The process that the lock file names. alive: whether it holds the lock; None of another machine's, since that
    cannot be seen from here."""

    process: int
    machine: str
    alive: bool | None


def holder_of(folder: Path) -> Holder | None:
    """None without a lock file, as after every run that could end by itself."""
    path = folder / "lock"
    try:
        told, inode = path.read_bytes()[:200].decode(errors="replace"), path.stat().st_ino
    except OSError:
        return None
    found = re.match(r"process (\d+) on (\S+)", told)
    if found is None:
        return None
    process, machine = int(found[1]), found[2]
    alive = _holds(process, inode) if machine == socket.gethostname() else None
    return Holder(process, machine, alive)


def interrupt(folder: Path) -> None:
    """Sends what Ctrl-C sends to the process that holds the lock: it saves after the present iteration, and ends.

    Raises:
        StudioRefused: nobody works here, or on another machine.
    """
    held = holder_of(folder)
    if held is None or held.alive is False:
        raise StudioRefused("no process works in this run; there is nothing to stop", 409)
    if held.alive is None:
        raise StudioRefused(f"this run goes on at {held.machine}, as process {held.process}; stop it there", 409)
    try:
        os.kill(held.process, signal.SIGINT)
    except OSError as error:
        raise StudioRefused(f"process {held.process} cannot be stopped from here ({error.strerror})", 409) from error


def _holds(process: int, inode: int) -> bool:
    """Whether a process of this machine holds a lock on the file. Where the system does not tell, whether it lives."""
    try:
        lines = LOCKS.read_text().splitlines()
    except OSError:
        return _lives(process)
    wanted = str(process), str(inode)
    for line in lines:
        words = line.split()
        if len(words) > 5 and words[1] == "FLOCK" and (words[4], words[5].rpartition(":")[2]) == wanted:
            return True
    return False


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
