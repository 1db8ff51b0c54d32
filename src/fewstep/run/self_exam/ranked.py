"""Which student `fewstep rank` chose, or else a judge: `fewstep export --checkpoint best` follows it."""

import json
from collections.abc import Collection
from pathlib import Path

from fewstep.run.self_exam.results import read_results
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


def judged_best(run: Path, figure: str, kept: Collection[int]) -> int | None:
    """The kept student with the highest figure of a judge, of equal ones the later; None while there is none.

    Args:
        kept: the iterations whose students the run keeps.
    """
    found = {i: r["figures"][figure] for i, r in read_results(run / FOLDER).items() if figure in r["figures"]}
    return max((i for i in found if i in kept), key=lambda i: (found[i], i), default=None)
