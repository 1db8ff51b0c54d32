"""The files of an examination: results by iteration, and what is known of the teachers' answers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewstep.runtime import durable
from fewstep.runtime.errors import RunError

RESULTS, TEACHER_FILE = "results", "teacher.json"


def read_results(folder: Path) -> dict[int, dict[str, Any]]:
    """The results of an examination folder by iteration, in order; what cannot be read is left out."""
    found = {}
    for path in sorted((folder / RESULTS).glob("*.json")) if (folder / RESULTS).is_dir() else []:
        held = read_json_file(path)
        if held is not None and isinstance(held.get("iteration"), int):
            found[held["iteration"]] = held
    return found


def read_teacher(folder: Path) -> dict[str, Any] | None:
    """What is known of the teachers' answers; None if they were not measured yet."""
    return read_json_file(folder / TEACHER_FILE)


def read_json_file(path: Path) -> dict[str, Any] | None:
    try:
        held = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error}); remove it, and it is made again") from error
    return held if isinstance(held, dict) else None


def write_json_file(path: Path, told: Mapping[str, Any]) -> None:
    durable.make_folder(path.parent)
    durable.write_atomically(path, json.dumps(told, ensure_ascii=False, allow_nan=False) + "\n")
