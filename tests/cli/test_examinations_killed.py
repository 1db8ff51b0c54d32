"""A run that examines itself: killed in the middle of an examination, over several ranks, and with a judge."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewstep.run.self_exam.results import read_few, read_results, read_teacher
from tests.bench.judged_gallery import honest, judge_file
from tests.cli.command_line import fewstep, write_recipe
from tests.cli.processes import Command, assert_same_run_folder, run_through
from tests.cli.torchrun import started
from tests.endpoint.fault_server import FaultServer
from tests.train.runs import lines

ITERATIONS = 2
PICTURES = 5  # of one examination: two prompts at two seeds, and an edit


@pytest.fixture
def examined(recipe: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Looks at itself before the first iteration and after the second one, however long that takes."""
    recipe["run"] |= {"iterations": ITERATIONS, "save_every_iterations": 1, "sample_every_iterations": 0}
    recipe["run"] |= {"examine_every_iterations": 2, "best_by": "composite"}
    recipe["examine"] = {
        "t2i": str(tmp_path / "t2i.jsonl"),
        "edit": str(tmp_path / "edit.jsonl"),
        "prompts": 2,
        "edits": 1,
        "share": 1.0,
        "answers": {"average": "none"},
    }
    return recipe


def drawn(run: Path, who: str) -> int:
    return len(list((run / "examination" / "pictures" / who).glob("*.png")))


def killed(file: str, run: Path, when: Callable[[], bool]) -> None:
    command = Command(run.parent / "log", "distill", file, "--out", run)
    command.until(when)
    assert not command.ended(), command.output
    command.kill()
    assert command.wait() == -signal.SIGKILL


def examination_files(run: Path) -> dict[str, bytes]:
    """Everything that an examination leaves, but for what a kill left half written."""
    folder = run / "examination"
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.suffix != ".tmp"}


def test_killed_within_examinations_it_ends_as_the_unbroken_one(examined: dict[str, Any], tmp_path: Path) -> None:
    file = write_recipe(examined, tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    run = tmp_path / "b" / "run"
    killed(file, run, lambda: drawn(run, "teacher") > 0)
    assert drawn(run, "teacher") < PICTURES, "the teachers' answers were half drawn"
    assert read_teacher(run / "examination") is None
    few = "teacher-at-4"
    killed(file, run, lambda: drawn(run, few) > 0)
    assert drawn(run, few) < PICTURES, "the teachers' answers at few steps were half drawn"
    assert read_few(run / "examination") is None
    killed(file, run, lambda: drawn(run, "student-000002") > 0)
    assert drawn(run, "student-000002") < PICTURES, "the student's answers were half drawn"
    killed(file, run, lambda: 2 in read_results(run / "examination"))
    whole = run_through(file, tmp_path / "a" / "run")
    assert_same_run_folder(whole, run_through(file, run), ITERATIONS)
    assert examination_files(whole) == examination_files(run)
    assert [line["iteration"] for line in lines(run) if line["phase"] == "examine"] == [0, 2]


def test_two_ranks_find_what_one_process_finds(examined: dict[str, Any], tmp_path: Path) -> None:
    """Whole weights, where each draws its own cases, of which there are three; and split ones, which both run."""
    examined["run"] |= {"iterations": 1, "save_every_iterations": 1, "examine_every_iterations": 1, "batch": 4}
    found = {}
    for name, ranks, sharding in (("one", 1, "off"), ("whole", 2, "off"), ("split", 2, "full")):
        run = tmp_path / name / "run"
        run.parent.mkdir()
        examined["run"]["sharding"] = sharding
        ended = started(write_recipe(examined, tmp_path), run, ranks)
        assert [command.wait() for command in ended] == [0] * ranks, [command.output for command in ended]
        found[name] = read_results(run / "examination")
    one = found.pop("one")
    assert one.keys() == {0, 1}
    for other in found.values():
        assert other.keys() == one.keys()
        for iteration, its in other.items():
            assert its["missing"] == one[iteration]["missing"]
            assert its["figures"] == pytest.approx(one[iteration]["figures"], rel=1e-3)
            who = [[(r["case"], r["seed"]) for r in each["records"]] for each in (one[iteration], its)]
            assert who[0] == who[1], "in the order of the set, each once"


def test_a_judge_chooses_what_ships_and_a_plan_says_what_it_is_asked(examined: dict[str, Any], tmp_path: Path) -> None:
    """The untrained start is not judged, and of two equal students the later ships. Unequal ones:
    tests/run/self_exam/test_background_judge.py."""
    examined["run"] |= {"iterations": 2, "save_every_iterations": 1, "examine_every_iterations": 1}
    examined["run"] |= {"best_by": "t2i.judge"}
    examined["examine"] |= {"prompts": 1, "edits": 0}
    examined["student"] = examined["student"] | {"steps": 2}  # each is another forward for the plan to rehearse
    run = tmp_path / "run"
    with FaultServer(honest) as server:
        examined["examine"]["judge"] = {"file": str(judge_file(tmp_path, server)), "wait_minutes": 1}
        file = write_recipe(examined, tmp_path)
        told = json.loads(fewstep("plan", file, "--json", "--out", run).output)["examinations"]["judge"]
        assert (told["name"], told["calls"]) == ("seer", 3 * 2)
        result = fewstep("distill", file, "--out", run)
        assert result.exit_code == 0, result.output
        asked = len(server.calls)
        assert asked <= told["calls"]
        assert fewstep("distill", file, "--out", run).exit_code == 0
        assert len(server.calls) == asked
    output = " ".join(result.output.split())
    assert "judge seer: 6 calls at most" in output
    assert "exporting the averaged student of iteration 2," in output
    results = read_results(run / "examination")
    assert {i: r["figures"].get("t2i.judge") for i, r in results.items()} == {0: None, 1: 4.25, 2: 4.25}
    assert all("t2i.judge" not in line for line in lines(run)), "metrics do not wait for it"
    ranked = fewstep("rank", run)
    assert ranked.exit_code == 0, ranked.output
    assert "ship iteration 2" in " ".join(ranked.output.split())
    assert fewstep("report", run).exit_code == 0
    assert "The mean score of a judge" in (run / "report.html").read_text()
