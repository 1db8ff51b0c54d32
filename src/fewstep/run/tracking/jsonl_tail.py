"""The end of a file of JSON lines that is being written."""

from pathlib import Path
from typing import Any

from fewstep.runtime.strict_json import load_json


class JsonlTail:
    """Reads each line once. The file may grow between two calls, and may not change otherwise."""

    def __init__(self, path: Path):
        self.path, self._offset = path, 0

    def read(self) -> list[dict[str, Any]]:
        """The records that came since the last call. Empty without a file; lines that are no records are left out."""
        if not self.path.is_file():
            return []
        with self.path.open("rb") as file:
            file.seek(self._offset)
            whole, end, _ = file.read().rpartition(b"\n")
        self._offset += len(whole) + len(end)
        return [record for line in whole.split(b"\n") if (record := _record(line)) is not None]


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = load_json(line)
    except ValueError:  # an empty line, or one that a kill cut off
        return None
    return record if isinstance(record, dict) else None
