"""What ended a run's last start, if it was an error: `failure.json` in its folder, for whoever looks later. The next
start removes it."""

import json
import time
from contextlib import suppress
from pathlib import Path

from fewstep.runtime import durable
from fewstep.runtime.errors import FewstepError, Interrupted

NAME = "failure.json"
MOST = 2000  # characters


def note_failure(folder: Path, error: BaseException | None) -> None:
    """Records an error. A stop that was asked for is none. A disk that is full must not hide the error itself."""
    if not isinstance(error, Exception) or isinstance(error, Interrupted):
        return
    words = str(error) if isinstance(error, FewstepError) else f"{type(error).__name__}: {error}"
    told = {"when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "words": words[:MOST]}
    with suppress(OSError, FewstepError):
        durable.write_atomically(folder / NAME, json.dumps(told, indent=1) + "\n")


def forget_failure(folder: Path) -> None:
    with suppress(OSError):
        (folder / NAME).unlink(missing_ok=True)


def failure_of(folder: Path) -> str | None:
    """Its words; None if the last start did not end by an error."""
    try:
        words = json.loads((folder / NAME).read_text())["words"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return words if isinstance(words, str) else None
