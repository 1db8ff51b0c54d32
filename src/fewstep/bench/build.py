"""`fewstep bench build`: a full-size suite whose cases a model writes, without duplicates and without training prompts.

Answers are written to answers.jsonl in the suite's folder before they are used, and the cases are a pure function of
that file. A build that was stopped goes on with the missing call. suite.json is written last and completes the suite.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

from PIL import Image

from fewstep.bench import case_writer
from fewstep.bench.case_writer import WrittenCase
from fewstep.bench.dedup import CaseDedup
from fewstep.bench.drafts import DraftCase, SuiteHeading
from fewstep.bench.mini.corruptions import CORRUPTIONS
from fewstep.bench.pixels import file_hash
from fewstep.bench.suite_files import ID, refuse_taken, write_suite
from fewstep.data.overlap import suite_prompts
from fewstep.data.pictures import open_picture
from fewstep.endpoint.bounded_map import bounded_map
from fewstep.endpoint.client import Client
from fewstep.endpoint.declaration import Endpoint
from fewstep.runtime import durable
from fewstep.runtime.errors import EndpointError, SuiteError
from fewstep.runtime.strict_json import load_json
from fewstep.runtime.task import PAPER_CATEGORIES, Task

ANSWERS, PLAN = "answers.jsonl", "build.json"
UNANSWERED = "failed"  # no answer came, so the call is made again; any other status was answered, and paid for
PATIENCE = 4  # ours: at most this many times the calls that a perfect writer would need
AHEAD = 1.25  # times the calls that a round seems to need
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}

_Progress = Callable[[str, int], object]  # category, and how many cases of it there are
_CallId = tuple[str, int]  # category and number of a call


@dataclass(frozen=True)
class SuitePlan:
    """What is to be built. count: cases of each category. against: files of training cases. pictures: sources for edits
    that you may use."""

    name: str
    task: Task
    count: int
    against: tuple[Path, ...] = ()
    pictures: Path | None = None
    seeds: int = 1
    seed: int = 0
    license: str | None = None

    @property
    def cases_per_call(self) -> int:
        return case_writer.CASES_PER_CALL if self.task == "t2i" else case_writer.EDITS_PER_CALL

    @property
    def most_calls(self) -> int:
        """The most calls of one category."""
        return PATIENCE * -(-self.count // self.cases_per_call) + PATIENCE


def write_model_suite(
    plan: SuitePlan, endpoint: Endpoint, to: Path, told: _Progress = lambda category, count: None
) -> Counter[str]:
    """Writes the suite to `to`, and returns how many written cases were dropped, by reason. told: called with a
    category and its number of cases.

    Raises:
        SuiteError: `to` is taken or was begun with another plan, there are no pictures for edits, or the model does not
            write enough different cases.
        EndpointError, BudgetSpent: see `Client.ask`; answers so far stay. EndpointError also if no call of a round got
            an answer.
    """
    refuse_taken(to)
    if not ID.fullmatch(plan.name):
        raise SuiteError(f"a suite's name holds letters, digits, '.', '_' and '-', not '{plan.name}'; give --name")
    forbidden = [prompt for path in plan.against for _, prompt in suite_prompts(path)]
    sources = _sources(plan)
    _begin(plan, endpoint, to)
    while True:
        answers = _answers(to)
        kept, dropped = deduplicated(plan, answers, forbidden)
        for category, cases in kept.items():
            told(category, len(cases))
        waiting = list(_missing(plan, answers, kept))
        if not waiting:
            break
        _ask(plan, endpoint, waiting, sources, to)
        _refuse_silence(answers, to)
    write_suite(_heading(plan), _drafts(plan, kept, sources), to)
    return dropped


def deduplicated(
    plan: SuitePlan, answers: Mapping[_CallId, Mapping[str, Any]], forbidden: Sequence[str]
) -> tuple[dict[str, list[tuple[_CallId, WrittenCase]]], Counter[str]]:
    """The first `count` admitted cases of each category with the call that wrote them, and how many were dropped by
    reason."""
    kept: dict[str, list[tuple[_CallId, WrittenCase]]] = {category: [] for category in PAPER_CATEGORIES[plan.task]}
    dedup, dropped = CaseDedup(forbidden), Counter[str]()
    for place in sorted(answers, key=lambda place: (place[1], place[0])):
        answer = answers[place]
        cases, why = case_writer.read_cases(answer["text"]) if answer["status"] == "ok" else ([], answer["status"])
        if why is not None:
            dropped[f"answer: {why.partition('(')[0].strip()}"] += 1
        for written in cases:
            if len(kept[place[0]]) < plan.count:
                about = "" if plan.task == "t2i" else str(answer["picture"])
                reason = dedup.refusal(written, place[0], about)
                if reason is None:
                    kept[place[0]].append((place, written))
                else:
                    dropped[reason] += 1
    return kept, dropped


def _missing(
    plan: SuitePlan, answers: Mapping[_CallId, Any], kept: Mapping[str, Sequence[object]]
) -> Iterator[_CallId]:
    """The calls that the next round makes.

    Raises:
        SuiteError: a category has used up its calls and is still short.
    """
    for category in PAPER_CATEGORIES[plan.task]:
        short = plan.count - len(kept[category])
        if short <= 0:
            continue
        made = sum(1 for place in answers if place[0] == category)
        unasked = ((category, number) for number in count() if (category, number) not in answers)
        if made >= plan.most_calls:
            raise SuiteError(
                f"after {made} calls there are {len(kept[category])} different {category} cases of {plan.count}; ask "
                "for fewer, another model, more pictures, or a higher temperature (parameters in the endpoint's file)"
            )
        a_case = made / max(1, len(kept[category])) if made else 1 / plan.cases_per_call
        wanted = max(1, round(AHEAD * short * a_case))
        yield from islice(unasked, min(wanted, plan.most_calls - made))


def _ask(plan: SuitePlan, endpoint: Endpoint, waiting: Sequence[_CallId], sources: Sequence[Path], to: Path) -> None:
    client = Client(endpoint, sum(line.get("cost") or 0.0 for line in durable.read_jsonl(to / ANSWERS)))

    async def one(place: _CallId) -> None:
        category, number = place
        picture = None if plan.task == "t2i" else sources[_turn(plan, place, len(sources))]
        messages = await asyncio.to_thread(_messages, plan, place, picture, endpoint.max_side)
        reply = await client.ask(messages, case_writer.SCHEMA)
        record = {"category": category, "number": number, "picture": None if picture is None else file_hash(picture)}
        record |= {"status": reply.status, "text": reply.text, "why": reply.why, "model": reply.model}
        durable.append_jsonl(to / ANSWERS, record | {"cost": reply.cost, "seconds": round(reply.seconds, 3)})

    async def everything() -> None:
        async with client:
            await bounded_map(waiting, one, endpoint.concurrency)

    asyncio.run(everything())


def _messages(plan: SuitePlan, place: _CallId, picture: Path | None, side: int | None) -> list[dict[str, Any]]:
    category, number = place
    if picture is None:
        return case_writer.t2i_messages(category, number, plan.seed)
    corruption = _corruption(place) if category == "perceptual" else None
    return case_writer.edit_messages(category, _source(place, picture), corruption, side)


def _drafts(
    plan: SuitePlan, kept: Mapping[str, Sequence[tuple[_CallId, WrittenCase]]], sources: Sequence[Path]
) -> Iterator[DraftCase]:
    """Categories take turns."""
    for number in range(plan.count):
        for category, cases in kept.items():
            place, written = cases[number]
            picture = None if plan.task == "t2i" else sources[_turn(plan, place, len(sources))]
            yield DraftCase(
                id=f"{plan.name}-{category}-{number + 1:04d}",
                prompt=written.prompt,
                category=category,
                references=() if picture is None else (_source(place, picture),),
                target=open_picture(picture, plan.name) if picture and category == "perceptual" else None,
                expect={"text": list(written.text)} if written.text else {},
                source="fewstep bench build",
            )


# ---- sources of edits


def _sources(plan: SuitePlan) -> list[Path]:
    """The pictures, each content once and ordered by it, so the order does not depend on file names."""
    if plan.task == "t2i":
        return []
    if plan.pictures is None or not plan.pictures.is_dir():
        raise SuiteError(f"edits need pictures to edit: name a folder of them with --pictures, not {plan.pictures}")
    paths = [path for path in sorted(plan.pictures.rglob("*")) if path.suffix.lower() in SUFFIXES]
    if not paths:
        raise SuiteError(f"{plan.pictures} holds no picture ({', '.join(sorted(SUFFIXES))})")
    distinct = {file_hash(path): path for path in paths}
    return [distinct[digest] for digest in sorted(distinct)]


def _turn(plan: SuitePlan, place: _CallId, count: int) -> int:
    """Which picture a call is about. Each category goes round all pictures, starting at a different one."""
    return (place[1] + PAPER_CATEGORIES[plan.task].index(place[0]) * count // len(PAPER_CATEGORIES[plan.task])) % count


def _source(place: _CallId, picture: Path) -> Image.Image:
    opened = open_picture(picture, str(picture)).convert("RGB")
    return CORRUPTIONS[_corruption(place)](opened, f"{place[0]}-{place[1]}") if place[0] == "perceptual" else opened


def _corruption(place: _CallId) -> str:
    return list(CORRUPTIONS)[place[1] % len(CORRUPTIONS)]


# ---- files


def _begin(plan: SuitePlan, endpoint: Endpoint, to: Path) -> None:
    """build.json says whose answers this folder holds.

    Raises:
        SuiteError: a build with another plan or model was begun here.
    """
    told = {"plan": asdict(plan), "model": endpoint.model, "parameters": endpoint.parameters}
    told = json.loads(json.dumps(told, default=str))
    path = to / PLAN
    if path.is_file() and _plan_in(path) != told:
        raise SuiteError(f"{to} was begun with other options or another model; name a new folder, or remove this one")
    durable.make_folder(to)
    durable.write_atomically(path, json.dumps(told, indent=1, ensure_ascii=False) + "\n")


def _plan_in(path: Path) -> Any:
    """None if the file is no JSON, as where it was edited: then it is no plan of ours."""
    try:
        return load_json(path.read_text(encoding="utf-8"))
    except ValueError:
        return None


def _answers(to: Path) -> dict[_CallId, dict[str, Any]]:
    """By call. A call that was made twice counts once, and one without an answer counts as not made."""
    found: dict[_CallId, dict[str, Any]] = {}
    for line in durable.read_jsonl(to / ANSWERS):
        if line["status"] != UNANSWERED:
            found.setdefault((str(line["category"]), int(line["number"])), line)
    return found


def _refuse_silence(before: Mapping[_CallId, object], to: Path) -> None:
    if len(_answers(to)) == len(before):
        last = list(durable.read_jsonl(to / ANSWERS))[-1]
        raise EndpointError(f"no call got an answer ({last['why']}); what was answered before stays: try again later")


def _heading(plan: SuitePlan) -> SuiteHeading:
    return SuiteHeading(plan.name, "1", plan.task, plan.seeds, None, plan.license)
