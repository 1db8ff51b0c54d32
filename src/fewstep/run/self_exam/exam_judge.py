"""The judge that a recipe names for its examinations: opened, and refused at the door if it cannot be used.

A run keeps the judge that it began with, since the scores of two are not compared. Who it was stands in
`examination/judge/judge.json`: name, model with parameters, and wording. Address, price, budget and rate may change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.bench.judge_requests import judge_hash
from fewstep.bench.protocol import JudgeProtocol, default_protocol, load_protocol
from fewstep.endpoint.declaration import Endpoint, load_endpoint
from fewstep.run.self_exam.plan import ExaminePlan, ExamJudgePlan
from fewstep.run.self_exam.ranked import FOLDER
from fewstep.run.self_exam.results import JUDGE_FOLDER, read_json_file, write_json_file
from fewstep.runtime.errors import DeclarationError, JudgeError, RecipeError, RunError
from fewstep.runtime.task import Task

IDENTITY = "judge.json"


@dataclass(frozen=True)
class ExamJudge:
    """A judge, and how it is asked about each task."""

    plan: ExamJudgePlan
    endpoint: Endpoint
    protocols: Mapping[Task, JudgeProtocol]

    @property
    def name(self) -> str:
        return self.endpoint.name

    @property
    def identity(self) -> dict[str, Any]:
        """What makes it another judge if it changes."""
        protocols = {task: protocol.name for task, protocol in self.protocols.items()}
        words = {
            f"{task}/{category}": protocol.fingerprint(category)
            for task, protocol in self.protocols.items()
            for category in (tuple(protocol.rubrics) or (None,))
        }
        told = {"name": self.name, "model": self.endpoint.model, "asked": judge_hash(self.endpoint)}
        return {**told, "repeats": self.endpoint.repeats, "protocols": protocols, "words": words}


def exam_judge(plan: ExaminePlan | None, tasks: Sequence[Task]) -> ExamJudge | None:
    """The judge of a recipe's section; None if it names none. Its key is not looked up yet.

    Raises:
        RecipeError: its file, or the protocol, cannot be used; with the key of the recipe.
    """
    if plan is None or plan.judge is None:
        return None
    try:
        endpoint = load_endpoint(plan.judge.file)
    except DeclarationError as error:
        raise RecipeError(f"examine.judge.file: {error}") from error
    try:
        protocols = {
            task: load_protocol(plan.judge.protocol or default_protocol(task), task) for task in plan.sources(tasks)
        }
    except JudgeError as error:
        raise RecipeError(f"examine.judge.protocol: {error}") from error
    pairs = [protocol.name for protocol in protocols.values() if protocol.kind != "rating"]
    if pairs:
        raise RecipeError(
            f"examine.judge.protocol: {pairs[0]} compares two pictures, and an examination needs scores of single "
            "ones; leave it null"
        )
    return ExamJudge(plan.judge, endpoint, protocols)


def refuse_unusable_judge(plan: ExaminePlan | None, tasks: Sequence[Task], run: Path) -> None:
    """Before anything is encoded, on the rank that will ask.

    Raises:
        RecipeError: as `exam_judge`. EnvironmentRefused: its key is not in the environment. RunError: the run began
            with another judge.
    """
    judge = exam_judge(plan, tasks)
    if judge is None:
        return
    judge.endpoint.key()
    held = read_json_file(run / FOLDER / JUDGE_FOLDER / IDENTITY)
    changed = [] if held is None else [key for key, value in judge.identity.items() if held.get(key) != value]
    if held is not None and changed:
        raise RunError(
            f"{run / FOLDER / JUDGE_FOLDER} holds answers of judge {held.get('name')}, and examine.judge is now "
            f"another one ({', '.join(changed)}): scores of two judges are not compared. Put it back, or remove that "
            "folder, and every examination is judged anew"
        )


def pin_judge(judge: ExamJudge, folder: Path) -> None:
    """Notes who is asked, once. folder: of the examination."""
    path = folder / JUDGE_FOLDER / IDENTITY
    if not path.is_file():
        write_json_file(path, judge.identity)
