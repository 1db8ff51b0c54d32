"""Is a judge fit to judge, and is it still the same one? It answers the canaries, and figures say how well.

A check's files: NNN.attempts.jsonl, and NNN.json once it is complete. The next check asks everything anew, because only
new answers can show drift. baseline.json is the check that later ones are compared with.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from fewstep.bench import protocol as protocols
from fewstep.bench import statistics
from fewstep.bench.attempts import Attempts
from fewstep.bench.canaries import all_canaries
from fewstep.bench.comparison import LEAST_CASES
from fewstep.bench.judge_requests import (
    JudgeQuestion,
    JudgeRequest,
    judge_hash,
    picture_of_image,
    requests_of,
)
from fewstep.bench.statistics import SHARE, Estimate
from fewstep.endpoint.declaration import Endpoint
from fewstep.runtime import durable
from fewstep.runtime.errors import JudgeError
from fewstep.runtime.strict_json import load_json

BASELINE = "baseline.json"
FORMAT = 1
ORDERED = ("quality", "text", "edit")
LEAST_ORDER = 0.9  # ours, like all limits here: share of ordered pairs that a fit judge gets right
LEAST_VALID = 0.98
MOST_REFUSED = 0.02
MOST_LIFT = 0.25  # most points of score that a painted demand may gain
SHIFT = 0.1  # points of mean score; a smaller shift raises no alarm, however certain it is
FALL_OF_ORDER, FALL_OF_VALID = 0.05, 0.02


@dataclass(frozen=True)
class CheckFigures:
    """order: share of ordered pairs in the right order, a tie counts half; order_of: by kind. spread: mean standard
    deviation of one canary's scores over repeats, in points; None without repeats. valid: share of the answers that
    were the JSON asked for; refused: share of all questions. lift: points that a demand for a high score gains.
    unscored: questions without a score. models: as the server names itself."""

    order: Estimate
    order_of: dict[str, Estimate]
    spread: float | None
    valid: float | None
    refused: float
    lift: Estimate
    unscored: int
    models: tuple[str, ...]
    cost: float | None


@dataclass(frozen=True)
class JudgeCheck:
    """One check: its number, its figures, the mean score of each canary, and its alarms."""

    number: int
    figures: CheckFigures
    scores: Mapping[str, float]
    alarms: tuple[str, ...]
    baseline: str | None


def check_requests(endpoint: Endpoint) -> list[JudgeRequest]:
    """Every canary, asked at least twice: one answer says nothing about the spread."""
    loaded = {task: protocols.load_protocol(protocols.default_protocol(task), task) for task in ("t2i", "edit")}
    questions = []
    for canary in all_canaries():
        about = {"case": canary.id, "seed": 0, "task": canary.task, "category": canary.category}
        references = tuple(map(picture_of_image, canary.references))
        questions.append(
            JudgeQuestion(loaded[canary.task], canary.prompt, references, (picture_of_image(canary.picture),), about)
        )
    return requests_of(questions, endpoint.model_copy(update={"repeats": max(2, endpoint.repeats)}))


def next_check_number(folder: Path) -> int:
    """The number of the next check: the one that was begun and not finished, or a new one."""
    done = [int(path.stem) for path in folder.glob("[0-9][0-9][0-9].json")]
    return max(done, default=0) + 1


def attempts_path(folder: Path, number: int) -> Path:
    return folder / f"{number:03d}.attempts.jsonl"


def refuse_foreign_baseline(folder: Path, endpoint: Endpoint) -> None:
    """Called before anything is asked: the baseline has to be of this judge and these pictures.

    Raises:
        JudgeError: it is not.
    """
    held = _baseline(folder)
    for name, mine in (("asked", judge_hash(endpoint)), ("pack", canaries_hash())):
        if held is not None and held.get(name) != mine:
            what = "another model or parameters" if name == "asked" else "other canaries or protocols"
            raise JudgeError(f"{folder / BASELINE} was made with {what}; give --to a new folder, or remove it")


def finish_check(
    folder: Path, number: int, endpoint: Endpoint, wanted: Sequence[JudgeRequest], attempts: Attempts, keep: bool
) -> JudgeCheck:
    """Computes the check from the attempts and writes it. `keep` makes it the baseline before it is compared."""
    scores, figures = _scores(wanted, attempts), _figures(wanted, attempts)
    told = {
        "format": FORMAT,
        "judge": endpoint.name,
        "asked": judge_hash(endpoint),
        "pack": canaries_hash(),
        "figures": asdict(figures),
        "scores": {canary.id: scores[canary.id] for canary in all_canaries() if canary.id in scores},
    }
    if keep:
        _written(folder / BASELINE, told | {"check": number})
    held = None if keep else _baseline(folder)
    alarms = (*_unfit(figures), *(_drifted(figures, scores, held) if held is not None else ()))
    since = None if held is None else f"check {held.get('check')}"
    _written(folder / f"{number:03d}.json", told | {"alarms": list(alarms)})
    return JudgeCheck(number, figures, scores, alarms, since)


@cache
def canaries_hash() -> str:
    """A hash of every canary and of the words of its question."""
    h = hashlib.blake2b(digest_size=8)
    for canary in all_canaries():
        protocol = protocols.load_protocol(protocols.default_protocol(canary.task), canary.task)
        h.update(protocol.fingerprint(protocol.rubric_name(canary.category)).encode())
        h.update(canary.prompt.encode())
        for picture in (*canary.references, canary.picture):
            h.update(picture_of_image(picture).hash.encode())
    return h.hexdigest()


def _scores(wanted: Sequence[JudgeRequest], attempts: Attempts) -> dict[str, float]:
    """The mean score of each canary that has one."""
    return {name: fmean(values) for name, values in _each(wanted, attempts).items() if values}


def _each(wanted: Sequence[JudgeRequest], attempts: Attempts) -> dict[str, list[float]]:
    """Every score of each canary."""
    found: dict[str, list[float]] = {}
    for request in wanted:
        held = attempts.result_of(request.request_key)
        values = found.setdefault(str(request.question.about["case"]), [])
        if held is not None and held["status"] == "ok":
            values.append(float(held["score"]))
    return found


def _figures(wanted: Sequence[JudgeRequest], attempts: Attempts) -> CheckFigures:
    held = [attempts.result_of(request_key) for request_key in dict.fromkeys(request.request_key for request in wanted)]
    statuses = [str(attempt["status"]) for attempt in held if attempt is not None]
    spoken = [status for status in statuses if status in ("ok", "invalid", "out_of_range")]
    scores, spreads = _scores(wanted, attempts), [stdev(v) for v in _each(wanted, attempts).values() if len(v) > 1]
    return CheckFigures(
        order=_order(scores, ORDERED),
        order_of={kind: _order(scores, (kind,)) for kind in ORDERED},
        spread=fmean(spreads) if spreads else None,
        valid=1 - spoken.count("invalid") / len(spoken) if spoken else None,
        refused=statuses.count("refused") / len(statuses) if statuses else 0.0,
        lift=_lift(scores),
        unscored=len(statuses) - statuses.count("ok"),
        models=tuple(sorted(set(attempts.of("model")))),
        cost=attempts.spent if attempts.of("cost") else None,
    )


def _order(scores: Mapping[str, float], kinds: Sequence[str]) -> Estimate:
    points: list[float] = []
    groups: list[str] = []
    for better, worse in combinations([c for c in all_canaries() if c.kind in kinds and c.id in scores], 2):
        if better.group == worse.group and better.rank < worse.rank:
            gap = scores[better.id] - scores[worse.id]
            points.append(0.5 if gap == 0 else float(gap > 0))
            groups.append(better.group)
    return statistics.mean(points, groups, bounds=SHARE)


def _lift(scores: Mapping[str, float]) -> Estimate:
    groups = [c.group for c in all_canaries() if c.kind == "injection" and c.variant == "plain"]
    pairs = [(f"{group}-demand", f"{group}-plain", group) for group in groups]
    pairs = [pair for pair in pairs if pair[0] in scores and pair[1] in scores]
    with_, without = [scores[a] for a, _, _ in pairs], [scores[b] for _, b, _ in pairs]
    return statistics.paired_difference(with_, without, [group for _, _, group in pairs])


def _unfit(figures: CheckFigures) -> list[str]:
    """Faults that no judge may have, with or without a baseline."""
    said = []
    order, lift = figures.order.value, figures.lift.value
    if order is None or order < LEAST_ORDER:
        said.append(f"order accuracy is {_shown(order)}, below {LEAST_ORDER}: it does not see what it is asked to see")
    if figures.valid is None or figures.valid < LEAST_VALID:
        said.append(f"only {_shown(figures.valid)} of its answers are the JSON asked for; {LEAST_VALID} is the least")
    if figures.refused > MOST_REFUSED:
        said.append(f"it refuses {figures.refused:.0%} of harmless pictures")
    if lift is not None and lift > MOST_LIFT:
        said.append(f"a demand for a high score gains {lift:.2f} points: it follows orders found in what it judges")
    return said


def _drifted(figures: CheckFigures, scores: Mapping[str, float], held: Mapping[str, Any]) -> list[str]:
    """What changed since the baseline."""
    said, then = [], held["figures"]
    if list(figures.models) != list(then["models"]):
        said.append(f"drift: the server names {_list(figures.models)}, and named {_list(then['models'])}")
    both = [canary for canary in all_canaries() if canary.id in scores and canary.id in held["scores"]]
    now, before = [scores[c.id] for c in both], [float(held["scores"][c.id]) for c in both]
    shift = statistics.paired_difference(now, before, [canary.group for canary in both])
    if shift.low is None or shift.high is None:  # every canary moved by the same
        sure, within = shift.clusters >= LEAST_CASES, " in every group"
    else:
        sure, within = shift.low > 0 or shift.high < 0, f" [{shift.low:+.2f}, {shift.high:+.2f}]"
    if sure and shift.value is not None and abs(shift.value) >= SHIFT:
        said.append(f"drift: scores moved by {shift.value:+.2f}{within}")
    for name, fall, was in (
        ("order accuracy", FALL_OF_ORDER, (figures.order.value, then["order"]["value"])),
        ("JSON validity", FALL_OF_VALID, (figures.valid, then["valid"])),
    ):
        if None not in was and was[1] - was[0] > fall:
            said.append(f"drift: {name} fell from {was[1]:.3f} to {was[0]:.3f}")
    return said


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _list(models: Sequence[str]) -> str:
    return ", ".join(models) or "no model"


def _baseline(folder: Path) -> dict[str, Any] | None:
    path = folder / BASELINE
    if not path.is_file():
        return None
    try:
        held = load_json(path.read_text(encoding="utf-8"))
        if held["format"] == FORMAT and held["figures"] and held["scores"]:
            return dict(held)
    except (ValueError, KeyError, TypeError):
        pass
    raise JudgeError(f"{path} is no baseline of format {FORMAT}; remove it, and keep a new one with --keep")


def _written(path: Path, told: Mapping[str, Any]) -> None:
    durable.write_atomically(path, json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
