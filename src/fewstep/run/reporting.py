"""`fewstep report`: the page of any run, at any time: while it goes on, after it ended, after it failed."""

import fcntl
import os
from pathlib import Path

from fewstep.pages.page import write_html
from fewstep.run.folder import RunDir
from fewstep.run.report_page import student_page


def report_run(run: str | Path, to: str | Path | None = None) -> Path:
    """Writes one self-contained page on a run, and returns where. It reads the run folder and changes nothing in it.

    Args:
        to: the file; report.html in the run folder if not given.

    Raises:
        RunError: no run folder.
    """
    opened = RunDir.open(Path(run))
    place = opened.folder / "report.html" if to is None else Path(to)
    page = student_page(opened, None, command=f"fewstep report {run}", state=run_state(opened))
    return write_html(page, place)


def run_state(run: RunDir) -> str:
    """How far a run is, in a sentence."""
    lines = run.metrics()
    done = max((m["iteration"] + 1 for m in lines if m["phase"] == "distil"), default=0)
    total = run.recipe.run.iterations
    if _is_locked(run.folder / "lock"):
        return f"It is running: {done:,} of {total:,} iterations are done."
    if any(run.student.iterdir()) if run.student.is_dir() else False:
        return f"It has ended after {done:,} of {total:,} iterations."
    return f"It is not running: {done:,} of {total:,} iterations are done. The same command goes on."


def _is_locked(path: Path) -> bool:
    """Whether a process works in the run folder."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(handle)
