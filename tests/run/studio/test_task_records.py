"""Exports and forecasts that another studio finds: at work, done, failed, abandoned."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fewstep.run.studio import task_records
from fewstep.run.studio.answers import StudioRefused
from fewstep.run.studio.jobs import Jobs
from fewstep.run.studio.task_records import TaskRecord
from tests.processes import wait_until
from tests.run.studio.served import studio_at
from tests.run.studio.small_runs import small_run


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    made = Jobs(tmp_path / "logs")
    yield made
    for job in made.all():
        job.process.kill()
        job.process.wait()


def state(record: TaskRecord) -> str:
    told = record.as_dict()
    return "" if told is None else str(told["state"])


def test_how_a_task_ended_is_known_to_whoever_reads_its_record(jobs: Jobs, tmp_path: Path) -> None:
    for name, words, wanted in (
        ("good", ("recipe", "show", "pocket"), ("done", 0)),
        ("bad", ("recipe", "show", "nothing"), ("failed", 2)),
    ):
        record = TaskRecord(tmp_path / "tasks", name)
        assert record.as_dict() is None
        jobs.start(name, words, record=record, apart=True)
        wait_until(lambda record=record: state(record) != "working", 240)  # type: ignore[misc]
        told = TaskRecord(tmp_path / "tasks", name).as_dict()
        assert told is not None
        assert (told["state"], told["code"]) == wanted
        assert told["command"] == "fewstep " + " ".join(words)
        assert ("name: pocket" in record.result.read_text()) == (name == "good")
        assert ("nothing" in told["tail"]) == (name == "bad")
    assert [each.name for each in task_records.task_records(tmp_path / "tasks")] == ["bad", "good"]


def test_a_task_that_was_killed_is_abandoned(jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_records, "GRACE_SECONDS", 0.0)
    record = TaskRecord(tmp_path, "long")
    job = jobs.start("long", ("studio", str(tmp_path), "--port", "0"), record=record, detached=True)
    wait_until(lambda: "studio at" in record.log.read_text(), 240)
    assert state(record) == "working"
    with pytest.raises(StudioRefused, match="at work already"):
        Jobs(tmp_path / "other").start("long", ("recipe", "schema"), record=record)
    jobs.end()
    assert state(record) == "working", "it outlives the studio that started it"
    job.process.kill()
    job.process.wait()
    assert state(record) == "abandoned"


def test_a_record_is_no_more_than_its_file(tmp_path: Path) -> None:
    record = TaskRecord(tmp_path, "one")
    record.begin("one", ("plan", "pocket"))
    assert state(record) == "working", "its process has a moment to begin"
    held = json.loads(record.path.read_text())
    record.path.write_text(json.dumps({**held, "began": held["began"] - 60}))
    assert state(record) == "abandoned"
    record.path.write_text(json.dumps({**held, "code": 130}))
    assert state(record) == "abandoned"
    far = '{"title": "x", "words": [], "began": 1' + "0" * 380 + "}"
    none = '{"title": "x", "words": [], "began": null}'
    for torn in ("{", "[]", '{"title": "x", "words": "rm", "began": 0}', none, far):
        record.path.write_text(torn)
        assert record.as_dict() is None
    record.end(0)
    assert record.path.read_text() == torn, "nobody waits for a record that is gone"
    record.remove()
    assert not list(tmp_path.iterdir())


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    record = TaskRecord(tmp_path / "exports", "one")
    record.begin("one", ("plan", "pocket"))
    assert state(record) == "working"
    record.log.unlink()
    record.log.symlink_to(tmp_path / "secret")
    assert record.as_dict() is None
    record.begin("one", ("plan", "pocket"))
    assert (tmp_path / "secret").read_text() == "secret", "a link is replaced, not written through"
    (tmp_path / "linked").symlink_to(tmp_path / "exports")
    assert TaskRecord(tmp_path / "linked", "one").as_dict() is None
    assert task_records.task_records(tmp_path / "linked") == []


def test_a_pipe_in_the_place_of_a_log_is_not_waited_for(tmp_path: Path) -> None:
    record = TaskRecord(tmp_path, "one")
    record.begin("one", ("plan", "pocket"))
    record.log.unlink()
    os.mkfifo(record.log)
    assert record.as_dict() is None


def test_another_studio_finds_them(tmp_path: Path, cache: Path) -> None:
    """A failed export in its run, a forecast in the user's cache; and what was shipped beside the run before."""
    run = small_run(tmp_path / "runs" / "one", trained=30)
    (tmp_path / "runs" / "students" / "old").mkdir(parents=True)
    (tmp_path / "runs" / "students" / "old" / "README.md").write_text("# Old")
    with studio_at(tmp_path / "a", tmp_path / "runs") as (address, first):
        record = TaskRecord(run / "exports", "mine")
        first.jobs.start("ship mine", ("recipe", "show", "nothing"), record=record, detached=True)
        told = httpx.get(f"{address}/api/ship/job", params={"run": "one", "job": "mine"}).json()
        assert (told["id"], told["state"]) == ("mine", "working")
        wait_until(lambda: state(record) == "failed", 240)
        assert [job.process.wait() for job in first.jobs.all()] == [2]
    forecast = TaskRecord(cache / "studio" / "forecasts", "0123456789ab")
    forecast.begin("pocket", ["plan", "pocket", "--json"])
    forecast.result.write_text('{"fits": false}')
    forecast.end(2)
    with studio_at(tmp_path / "b", tmp_path / "runs") as (address, second):
        told = httpx.get(f"{address}/api/ship/students", params={"run": "one"}).json()
        (task,) = told["tasks"]
        assert (task["id"], task["state"]) == ("mine", "failed")
        assert "nothing" in task["tail"]
        assert [(each["name"], each["beside"]) for each in told["shipped"]] == [("old", True)]
        card = {"run": "one", "name": "old", "beside": "true"}
        assert httpx.get(f"{address}/api/ship/card", params=card).json()["card"] == "# Old"
        forecasts = httpx.get(f"{address}/api/plan/known").json()["forecasts"]
        (known,) = [each for each in forecasts if each["id"] == forecast.name]  # the cache is that of all tests
        assert (known["state"], known["command"]) == ("done", "fewstep plan pocket")
        found = httpx.get(f"{address}/api/plan/result", params={"job": known["id"]}).json()
        assert found["needs"] == {"fits": False}
        assert httpx.get(f"{address}/api/plan/result", params={"job": "../../x"}).status_code == 404
        headers = {"x-studio-token": second.page_token, "origin": address}
        gone = httpx.post(f"{address}/api/ship/forget", json={"run": "one", "job": "mine"}, headers=headers)
        assert gone.status_code == 200
        assert not list((run / "exports").iterdir())
