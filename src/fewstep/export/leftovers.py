"""Folders that a killed export leaves beside its place, full-size and under a hidden name.

An export holds a lock of the kernel on a file in its folder for as long as it writes. The lock ends with the process,
so a folder of this machine whose lock is free was left by a dead one, and can be removed. What no lock says anything of
(an export of an earlier version, or of another machine) is only named.
"""

import fcntl
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

OWNER = ".fewstep-export"  # in a folder that is being written
_NAME = re.compile(r"\..+\.\d+\.tmp")


@dataclass(frozen=True)
class Leftover:
    """A folder of an export that has ended, or may have. dead: it surely has."""

    folder: Path
    dead: bool

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())

    def words(self) -> str:
        why = "left by an export that was killed" if self.dead else "left by an export, if none is running there"
        return f"{self.folder} ({self.size / 1e9:.1f} GB), {why}"


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Inside, the folder is in use by this process, for `leftovers` of any process. Call `disown` before it is
    renamed."""
    handle = os.open(folder / OWNER, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with suppress(OSError):  # a disk without locks: then its folder is never removed by another
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(handle, socket.gethostname().encode())
        yield
    finally:
        os.close(handle)


def disown(folder: Path) -> None:
    (folder / OWNER).unlink(missing_ok=True)


def leftovers(place: Path) -> list[Leftover]:
    """What exports to anywhere in the folder `place` left behind. Not what a living process is writing."""
    with suppress(OSError):
        found = [path for path in sorted(place.iterdir()) if _NAME.fullmatch(path.name) and path.is_dir()]
        return [left for path in found if (left := _left(path)) is not None]
    return []


def remove_leftovers(place: Path, say: Callable[[str], None]) -> None:
    """Removes those that surely are of dead exports, and names the others. say: takes a line for each."""
    for left in leftovers(place):
        if left.dead:
            told = left.words()
            shutil.rmtree(left.folder, ignore_errors=True)
            say(f"removed {told}")
        else:
            say(f"{left.words()}: delete it to free its space")


def _left(path: Path) -> Leftover | None:
    try:
        handle = os.open(path / OWNER, os.O_RDWR)
    except FileNotFoundError:
        return Leftover(path, dead=False) if (path / "transformer").is_dir() else None
    except OSError:
        return Leftover(path, dead=False)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = os.pread(handle, 300, 0).decode(errors="replace") == socket.gethostname()
        return Leftover(path, dead=ours)
    except OSError:  # it is being written
        return None
    finally:
        os.close(handle)
