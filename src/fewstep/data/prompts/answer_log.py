"""The record of requests to an endpoint and its answers: one synced line per request, beside the set that is being
built. After a kill every answered request is there, and only the others are sent again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewstep.runtime import durable
from fewstep.runtime.errors import CaseError

FORMAT = 1
UNANSWERED = "failed"  # no answer came, so this request is sent again; any other status was answered, and paid for

_Row = dict[str, Any]


class AnswerLog:
    """The record at `path`. heading: identifies the set; a record with another heading is refused.

    Raises:
        CaseError: the record is of another set.
    """

    def __init__(self, path: Path, heading: Mapping[str, Any]):
        self.path = path
        self._rows: dict[tuple[str, int], _Row] = {}
        self.cost = 0.0
        self.tokens = 0
        whole = {"format": FORMAT, **heading}
        found = list(durable.read_jsonl(path))
        if not found:
            durable.make_folder(path.parent)
            durable.append_jsonl(path, whole)
        elif found[0] != whole:
            raise CaseError(
                f"{path} is the record of another set ({_difference(found[0], whole)}); choose another --to"
            )
        for row in found[1:]:
            self._take(row)

    def __contains__(self, key: tuple[str, int]) -> bool:
        """Whether this request (category, number) was answered."""
        return key in self._rows and self._rows[key]["status"] != UNANSWERED

    def __getitem__(self, key: tuple[str, int]) -> _Row:
        return self._rows[key]

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: _Row) -> None:
        durable.append_jsonl(self.path, row)
        self._take(row)

    def _take(self, row: _Row) -> None:
        self._rows[str(row["category"]), int(row["request"])] = row
        self.cost += row.get("cost") or 0.0
        self.tokens += sum((row.get("tokens") or {}).values())


def _difference(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    key = next((key for key in now if was.get(key) != now[key]), "format")
    return f"{key} was {was.get(key)!r:.60}, and is {now.get(key)!r:.60}"
