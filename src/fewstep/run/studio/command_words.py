"""How a command of the studio is shown: the line to copy, and the end of what it printed."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

TAIL = 6_000  # bytes of a log that are shown


def command_line(words: Sequence[str]) -> str:
    """As one would type it."""
    return shlex.join(["fewstep", *words])


def log_tail(path: Path) -> str:
    """The end of a log, by whole lines."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return text if size <= TAIL else text.partition("\n")[2]
