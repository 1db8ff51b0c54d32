"""The process of a recorded task: `python -m fewstep.run.studio.recorded_task FOLDER NAME WORDS...`.

It runs `fewstep WORDS` in itself, and writes how that ended. So the end is known whoever started it, and even if that
studio was killed. A kill of this process leaves its lock free and no end, which is an end too.
"""

import runpy
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from fewstep.run.studio.task_records import TaskRecord

INTERRUPTED = 130  # as shells count a Ctrl-C


def run_recorded(folder: str, name: str, words: Sequence[str]) -> int:
    """The exit code of `fewstep WORDS`, once the record has it."""
    record = TaskRecord(Path(folder), name)
    with record.locked():
        code = _ran(words)
        sys.stdout.flush()
        record.end(code)
    return code


def _ran(words: Sequence[str]) -> int:
    sys.argv = ["fewstep", *words]
    try:
        runpy.run_module("fewstep", run_name="__main__")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run_recorded(sys.argv[1], sys.argv[2], sys.argv[3:]))
