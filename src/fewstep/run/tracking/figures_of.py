"""Lines of metrics.jsonl as figures by step."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def figures_by_step(lines: Iterable[Mapping[str, Any]]) -> dict[int, dict[str, float]]:
    """The figures of each step, in order: of its iteration, of its examination and of its events.

    The critic's warm-up counts iterations of its own, and is left out.
    """
    found: dict[int, dict[str, float]] = {}
    for line in lines:
        if (step := _step(line)) is not None:
            found.setdefault(step, {}).update(_figures(line))
    return dict(sorted(found.items()))


def _step(line: Mapping[str, Any]) -> int | None:
    phase, number = line.get("phase"), line.get("iteration")
    if not isinstance(number, int):
        return None
    return {"examine": number, "distil": number + 1, "event": number + 1}.get(str(phase))


def _figures(line: Mapping[str, Any]) -> dict[str, float]:
    rest = {name: value for name, value in line.items() if name not in ("phase", "iteration")}
    if line["phase"] != "event":
        return dict(_numbers(rest, line["phase"]))
    which = f"event/{line['kind'] if 'kind' in line else 'pull/' + str(line.get('teacher'))}"
    rest |= rest.pop("values", None) or {}
    return {which: 1.0, **dict(_numbers(rest, which))}  # the event itself too: some have no values


def _numbers(value: Any, name: str) -> Iterator[tuple[str, float]]:
    """The numbers inside, by path. Words, and what was not finite (null), are no figures."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _numbers(part, f"{name}/{key}")
    elif isinstance(value, int | float):
        yield name, float(value)
