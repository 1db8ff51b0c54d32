"""A judge is asked about examinations while a run trains: once about each picture, whatever happens to the run."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fewstep.bench.paired.ranking import rank_students
from fewstep.flow.guidance import Guidance
from fewstep.run.best_by import refuse_best_without_examiner
from fewstep.run.recipe import load_recipe
from fewstep.run.self_exam.background_judge import BackgroundJudge
from fewstep.run.self_exam.chosen_cases import exam_cases
from fewstep.run.self_exam.cost import exam_schedule
from fewstep.run.self_exam.exam_cases import FrozenSet, freeze
from fewstep.run.self_exam.exam_judge import exam_judge, refuse_unusable_judge
from fewstep.run.self_exam.judge_cost import judge_forecast
from fewstep.run.self_exam.plan import ExaminePlan
from fewstep.run.self_exam.ranked import FOLDER, judged_best
from fewstep.run.self_exam.results import RESULTS, TEACHER_FILE, read_results, read_teacher, write_json_file
from fewstep.runtime import durable
from fewstep.runtime.errors import EnvironmentRefused, RecipeError, RunError
from tests.bench.judged_gallery import honest, judge_file, noise, rated
from tests.endpoint.fault_server import Call, FaultServer, Script, fails, hangs, says
from tests.processes import forked
from tests.reporters import Recorded
from tests.run.self_exam.test_exam_cases import case_files

TASKS = ("t2i", "edit")
PICTURES = 5  # two prompts at two seeds, and an edit


def plan_of(
    folder: Path, server: FaultServer | str, declared: dict[str, Any] | None = None, **judge: Any
) -> ExaminePlan:
    file = judge_file(folder, server, **(declared or {}))
    given = {"file": str(file), "wait_minutes": 1, **judge}
    return ExaminePlan.model_validate({**case_files(folder), "prompts": 2, "edits": 1, "judge": given})


def drawn(folder: Path, plan: ExaminePlan, *iterations: int) -> FrozenSet:
    """A run's examinations as they are before anyone judges them: pictures of noise, all different."""
    exam = freeze(folder / "run", exam_cases(plan, TASKS, folder), "asked")
    for number, who in enumerate(("teacher", *(f"student-{i:06d}" for i in iterations))):
        records = []
        for n, one in enumerate(exam.cases):
            for seed in one.seeds:
                path = exam.picture(who, one, seed)
                path.parent.mkdir(parents=True, exist_ok=True)
                noise(1000 * number + 10 * n + len(records)).save(path)
                about = {"case": one.case.id, "task": one.case.task, "category": one.case.category, "seed": seed}
                records.append({**about, "values": {"psnr": 20.0}, "missing": {}})
        told: dict[str, Any] = {"set": exam.identity, "records": records}
        if number == 0:
            write_json_file(exam.folder / TEACHER_FILE, {**told, "band": {}})
        else:
            i = iterations[number - 1]
            told |= {"iteration": i, "figures": {"t2i.psnr": 20.0}, "missing": {}, "events": []}
            write_json_file(exam.folder / RESULTS / f"{i:06d}.json", told)
    return exam


def judged(plan: ExaminePlan, exam: FrozenSet, *iterations: int, submitted: tuple[int, ...] = ()) -> list[str]:
    """One start of a run that had examined `iterations` before, and now examines `submitted`. Its warnings."""
    judge, told = exam_judge(plan, TASKS), Recorded()
    assert judge is not None
    with BackgroundJudge(judge, exam, iterations, told) as background:
        for iteration in submitted:
            background.submit(iteration)
        background.finish()
    return [text for kind, text in told.said if kind == "warning"]


def attempts(exam: FrozenSet) -> list[dict[str, Any]]:
    return list(durable.read_jsonl(exam.folder / "judge" / "seer.attempts.jsonl"))


def by_number(*scores: float) -> Script:
    """The n-th call gets the n-th score, well formed for its protocol."""

    def script(call: Call) -> Any:
        edit = "sub_scores" in call.body["response_format"]["json_schema"]["schema"]["properties"]
        return honest(call) if edit else says(rated(scores[min(call.number, len(scores) - 1)]))(call)

    return script


def test_answers_belong_to_their_iterations_and_the_teacher_is_judged_once(tmp_path: Path) -> None:
    with FaultServer(by_number(5, 5, 5, 5, 0, 3, 3, 3, 3, 0, 4, 4, 4, 4, 0)) as server:
        plan = plan_of(tmp_path, server, {"concurrency": 1})
        exam = drawn(tmp_path, plan, 4, 8)
        assert judged(plan, exam, submitted=(4, 8)) == []
        assert len(server.calls) == 3 * PICTURES
        judged(plan, exam, 4, 8)
        assert len(server.calls) == 3 * PICTURES, "a run that has ended asks nothing again"
    results, teacher = read_results(exam.folder), read_teacher(exam.folder)
    assert teacher is not None
    assert teacher["band"]["t2i.judge"]["value"] == 5
    assert {i: r["figures"]["t2i.judge"] for i, r in results.items()} == {4: 3, 8: 4}
    assert results[4]["figures"]["t2i.psnr"] == 20
    assert judged_best(tmp_path / "run", "t2i.judge", [4, 8]) == 8
    assert judged_best(tmp_path / "run", "t2i.judge", [4]) == 4
    ranked = rank_students({i: r["records"] for i, r in results.items()}, teacher["records"], "t2i.judge")
    assert [(one.iteration, one.figures["t2i.judge"]) for one in ranked] == [(8, 4), (4, 3)]


def test_kill_9_asks_nothing_again_that_was_answered(tmp_path: Path) -> None:
    with FaultServer(lambda call: hangs_briefly(call)) as server:
        plan = plan_of(tmp_path, server)
        exam = drawn(tmp_path, plan, 4, 8)
        child = forked(lambda: judged(plan, exam, submitted=(4, 8)))
        until = time.monotonic() + 60
        while len(attempts(exam)) < 6:
            assert time.monotonic() < until
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert 6 <= len(attempts(exam)) < 3 * PICTURES
        judged(plan, exam, 4, 8)
        assert len(attempts(exam)) == 3 * PICTURES == len({line["key"] for line in attempts(exam)})
        assert len(server.calls) <= 3 * PICTURES + 2, "more than what was under way when it was killed"
    assert all("t2i.judge" in r["figures"] for r in read_results(exam.folder).values())


def hangs_briefly(call: Call) -> Any:
    time.sleep(0.02)
    return honest(call)


def test_a_judge_that_is_down_is_told_once_and_asked_again_by_the_next_start(tmp_path: Path) -> None:
    down = {"timeout_s": 0.3, "deadline_s": 0.3, "backoff_s": 0.01, "give_up_after": 2, "concurrency": 1}
    with FaultServer(fails(503)) as server:
        plan = plan_of(tmp_path, server, down)
        exam = drawn(tmp_path, plan, 4, 8)
        told = judged(plan, exam, submitted=(4, 8))
    assert sum("The run goes on, and figures of the judge are missing" in line for line in told) == 1
    assert "The same command asks for them" in told[-1]
    assert all("t2i.judge" not in r["figures"] for r in read_results(exam.folder).values())
    with FaultServer(honest) as server:
        plan = plan_of(tmp_path, server)
        assert judged(plan, exam, 4, 8) == []
    assert all(r["figures"]["t2i.judge"] == 4.25 for r in read_results(exam.folder).values())


def test_the_end_waits_no_longer_than_declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewstep.run.self_exam.background_judge.GRACE_S", 0.05)
    with FaultServer(hangs(0.5)) as server:
        plan = plan_of(tmp_path, server, {"timeout_s": 1, "deadline_s": 1}, wait_minutes=0)
        exam = drawn(tmp_path, plan, 4)
        told = judged(plan, exam, submitted=(4,))
        assert "are outstanding" in told[-1]
        assert len(server.calls) <= PICTURES


def test_a_budget_ends_the_questions_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    priced = {"price": {"output": 10_000}, "budget": 7, "concurrency": 1, "parameters": {"max_tokens": 100}}
    with FaultServer(honest) as server:  # 100 tokens of output: each costs 1
        plan = plan_of(tmp_path, server, priced)
        exam = drawn(tmp_path, plan, 4)
        told = judged(plan, exam, submitted=(4,))
        assert len(server.calls) == 7
        assert "the budget of 7 is spent" in told[0]
        (result,) = read_results(exam.folder).values()
        assert result["missing"]["t2i.judge"] == "2 of 4 answers are outstanding"
        assert not any("score_judge" in record["values"] for record in result["records"]), "nor some of them"
        plan = plan_of(tmp_path, server, priced | {"budget": 20})
        judged(plan, exam, 4)
        assert len(server.calls) == 2 * PICTURES


def test_so_many_questions_and_no_more(tmp_path: Path) -> None:
    with FaultServer(honest) as server:
        plan = plan_of(tmp_path, server, calls=6)
        exam = drawn(tmp_path, plan, 4)
        assert "examine.judge.calls is 6" in judged(plan, exam, submitted=(4,))[0]
        judged(plan, exam, 4)
        assert len(server.calls) == 6


def test_a_score_is_never_invented(tmp_path: Path) -> None:
    """What is refused has no score, and a figure of what is left would be of other pictures."""

    def refuses(call: Call) -> Any:
        return says(None, refusal="no")(call) if call.number == PICTURES else honest(call)

    with FaultServer(refuses) as server:
        plan = plan_of(tmp_path, server, {"concurrency": 1})
        exam = drawn(tmp_path, plan, 4)
        exam.picture("student-000004", exam.cases[-1], exam.cases[-1].seeds[0]).unlink()
        judged(plan, exam, submitted=(4,))
    (result,) = read_results(exam.folder).values()
    assert result["figures"] == {"t2i.psnr": 20}
    assert result["missing"] == {
        "t2i.judge": "1 of 4 pictures have no score (1 refused)",
        "edit.judge": "1 of 1 pictures have no score (1 no picture)",
    }


# ---- at the door


@contextmanager
def refused(error: type[Exception], *words: str) -> Iterator[None]:
    with pytest.raises(error) as raised:
        yield
    for word in words:
        assert word in str(raised.value)


def test_a_judge_that_cannot_be_used_is_refused_before_anything_else(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "http://127.0.0.1:1/v1", {"key_env": "NO_SUCH_KEY"})
    with refused(EnvironmentRefused, "NO_SUCH_KEY"):
        refuse_unusable_judge(plan, TASKS, tmp_path / "run")
    with refused(RecipeError, "examine.judge.protocol: pair-v1 compares two pictures"):
        exam_judge(plan_of(tmp_path, "http://127.0.0.1:1/v1", protocol="pair-v1"), TASKS)
    with refused(RecipeError, "examine.judge.file: ", "nowhere.toml"):
        exam_judge(plan_of(tmp_path, "http://127.0.0.1:1/v1", file="nowhere.toml"), TASKS)
    with refused(ValueError, "scorers.judge and judge would both be the figure t2i.judge"):
        ExaminePlan.model_validate({"scorers": {"judge": "clip"}, "judge": {"file": "seer.yaml"}})


def test_a_run_keeps_the_judge_that_it_began_with(tmp_path: Path) -> None:
    with FaultServer(honest) as server:
        plan = plan_of(tmp_path, server)
        exam = drawn(tmp_path, plan, 4)
        judged(plan, exam, submitted=(4,))
        refuse_unusable_judge(plan_of(tmp_path, server, {"budget": 5, "price": {"input": 1}}), TASKS, tmp_path / "run")
        with refused(RunError, "holds answers of judge seer", "another one (model, asked)", "remove that folder"):
            refuse_unusable_judge(plan_of(tmp_path, server, {"model": "other"}), TASKS, tmp_path / "run")
    assert (tmp_path / "run" / FOLDER / "judge").is_dir()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "which needs a judge (examine.judge)"),
        ({"examine.judge.file": "seer.yaml", "run.keep_students": False}, "Set run.keep_students: true"),
        ({"examine.judge.file": "seer.yaml", "examine.patience": 2}, "examine.patience ends a run by figures"),
    ],
)
def test_a_figure_of_a_judge_chooses_only_where_it_can(changes: dict[str, Any], words: str) -> None:
    given = {"examine": {}, "run.best_by": "edit.judge", **changes}
    with refused(RecipeError, words):
        refuse_best_without_examiner(load_recipe("pocket", given))
    refuse_best_without_examiner(load_recipe("pocket", {"examine.judge.file": "a.yaml", "run.best_by": "edit.judge"}))


def test_a_plan_says_what_a_judge_would_be_asked(tmp_path: Path) -> None:
    declared = {"price": {"image": 0.01}, "budget": 0.5, "repeats": 2}
    judge = plan_of(tmp_path, "http://127.0.0.1:1/v1", declared, calls=50).judge
    assert judge is not None
    recipe = load_recipe("pocket", {"examine": {"share": 1.0, "judge": judge.model_dump()}, "run.iterations": 400,
                                    "run.examine_every_iterations": 100, "run.best_by": None})  # fmt: skip
    schedule = exam_schedule(recipe, TASKS, 40, Guidance(3.0))
    assert schedule is not None
    found = judge_forecast(recipe, schedule, TASKS)
    assert found is not None
    # the teachers' answers and four examinations: 24 prompts at two seeds and 24 edits, each asked twice; an edit shows
    # two pictures
    assert found.calls == 5 * 2 * (48 + 24)
    assert found.cost == pytest.approx(5 * 2 * (48 + 2 * 24) * 0.01)
    assert "judge seer: 720 calls at most" in found.words
    assert len(found.warnings) == 2
