"""What the studio answers with: JSON that a browser always reads, and refusals that are a sentence for the page."""

import json
import math
from typing import Any

from starlette.responses import Response


class StudioRefused(Exception):
    """A request that is refused. sentence: what the page shows. status: of HTTP."""

    def __init__(self, sentence: str, status: int = 400):
        super().__init__(sentence)
        self.sentence, self.status = sentence, status


def json_text(value: Any) -> str:
    """JSON on one line. Numbers that are not finite become null, which `JSON.parse` reads; half a surrogate pair, as in
    names of files that are not UTF-8, is escaped."""
    text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace").decode()


def json_answer(value: Any, status: int = 200) -> Response:
    return Response(json_text(value), status, {"Cache-Control": "no-store"}, "application/json")


def refusal_answer(sentence: str, status: int) -> Response:
    return json_answer({"error": sentence}, status)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value
