"""Which student `fewstep rank` chose: `fewstep export --checkpoint best` follows it."""

import json
from pathlib import Path

from fewstep.runtime.errors import RunError

FOLDER, RANKED = "examination", "rank.json"  # in a run folder


def ranked_best(run: Path) -> int | None:
    """The iteration that `fewstep rank` chose in this run; None if it was never called.

    Raises:
        RunError: its file cannot be read.
    """
    path = run / FOLDER / RANKED
    if not path.is_file():
        return None
    try:
        return int(json.loads(path.read_text())["ship"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read ({error}); call fewstep rank {run} again, or remove it") from error
