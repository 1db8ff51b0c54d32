"""Ship and Plan: the command that they would run, what they refuse, and (slow) a student written and verified."""

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from fewstep.run.folder import RunDir
from fewstep.run.recipe import load_recipe
from tests.browser import Browser
from tests.processes import wait_until
from tests.run.studio.conftest import Served


def post(served: Served, path: str, **fields: Any) -> httpx.Response:
    headers = {"x-studio-token": served.studio.page_token, "origin": served.address}
    return httpx.post(f"{served.address}{path}", json=fields, headers=headers, timeout=60)


def test_the_command_of_a_form(served: Served) -> None:
    given = {"run": "second", "name": "one-lora", "checkpoint": "20", "form": "adapter", "lora": "both"}
    told = post(served, "/api/ship/plan", **given, svd_rank="8", verify=True).json()
    run = served.root / "second"
    to = run / "exports" / "one-lora"
    words = f"fewstep export {run} --to {to} --checkpoint 20 --form adapter --lora both --svd-rank 8 --verify"
    assert told == {"command": words, "out": str(to)}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": "../up"}, "letters, digits"),
        ({"name": "--verify"}, "letters, digits"),
        ({"checkpoint": "first"}, "best"),
        ({"form": "whole"}, "merged"),
        ({"svd_rank": "-1"}, "whole number"),
        ({"run": "third"}, "no run"),
        ({"lora": 7}, "no text"),
    ],
    ids=str,
)
def test_what_cannot_be_shipped(served: Served, given: dict[str, Any], words: str) -> None:
    answer = post(served, "/api/ship/plan", **{"run": "second", "name": "one", **given})
    assert answer.status_code in (400, 404)
    assert words in answer.json()["error"]


def test_nothing_is_written_over(served: Served) -> None:
    there = served.root / "second" / "exports" / "there"
    there.mkdir(parents=True)
    (there / "README.md").write_text("# There\n\n<img src=x onerror=document.title='run'>\n")
    answer = post(served, "/api/ship/start", run="second", name="there")
    assert answer.status_code == 409
    assert "is there already" in answer.json()["error"]


def test_nothing_is_written_through_a_link(served: Served, tmp_path: Path) -> None:
    """A run folder of somebody else may lead anywhere."""
    (served.root / "second" / "exports").mkdir(exist_ok=True)
    (served.root / "second" / "exports" / "led").symlink_to(tmp_path / "away")
    answer = post(served, "/api/ship/start", run="second", name="led")
    assert answer.status_code == 403
    assert "links are not followed" in answer.json()["error"]
    assert not (tmp_path / "away").exists()


def test_the_card_of_what_was_shipped_is_inert(browser: Browser, served: Served) -> None:
    (served.root / "students" / "carded").mkdir(parents=True, exist_ok=True)
    (served.root / "students" / "carded" / "README.md").write_text(
        "# Card\n\n<img src=x onerror=document.title='run'>\n"
    )
    browser.open(f"{served.address}/#/ship?run=second")
    browser.until("document.querySelector('pre')?.textContent.startsWith('fewstep export')")
    browser.js("[...document.querySelectorAll('.plain button')].find((b) => b.textContent === 'carded').click()")
    browser.until("document.querySelector('.card')?.textContent.includes('onerror')")
    assert browser.js("document.querySelectorAll('.card img').length") == 0
    browser.click("input[value=adapter]")
    browser.until("document.querySelector('pre').textContent.includes('--form adapter')")


def test_a_mistaken_key_is_told_before_a_forecast(served: Served) -> None:
    answer = post(served, "/api/plan/start", recipe="pocket", changes=["run.iteration=3"])
    assert answer.status_code == 400
    assert "run.iteration" in answer.json()["error"]
    for given in ({"recipe": "nothing"}, {"recipe": "pocket", "gpu": "much"}, {"recipe": "pocket", "changes": "x=1"}):
        assert post(served, "/api/plan/start", **given).status_code in (400, 404), given


def test_the_form_has_the_values_of_the_run(served: Served) -> None:
    told = httpx.get(f"{served.address}/api/plan/keys", params={"run": "first"}).json()["keys"]
    assert {each["key"]: each["value"] for each in told}["run.iterations"] == "40"
    assert all(each["meaning"] for each in told)


def ended(served: Served, path: str, job: dict[str, Any], **more: str) -> dict[str, Any]:
    while job["state"] == "working":
        time.sleep(0.5)
        job = {**job, **httpx.get(f"{served.address}{path}", params={"job": job["id"], **more}).json()}
    return job


@pytest.mark.slow
def test_a_forecast(served: Served) -> None:
    given = {"recipe": "pocket", "changes": ["run.batch=2"], "gpu": "24"}
    told = ended(served, "/api/plan/result", post(served, "/api/plan/start", **given).json())
    assert told["needs"]["fits"] is True, told
    assert told["command"] == "fewstep plan pocket --gpu 24 --set run.batch=2"


@pytest.mark.slow
def test_a_living_run_is_stopped_resumed_and_shipped(served: Served) -> None:
    """A real pocket run of few samples, begun, stopped, resumed and stopped through the studio, then verified."""
    folder = served.root / "living"
    sets = ["run.iterations=4000", "run.batch=2", "run.examine_every_iterations=0", "run.best_by=null", "examine=null"]
    sets += ["data.t2i.0.source=pocket:t2i:8", "data.edit.0.source=pocket:edit:8"]
    RunDir.open_or_create(folder, load_recipe("pocket", sets)).close()
    served.studio.places.look_again()
    assert state(served)["state"] == "stopped"
    for least in (3, 6):
        assert post(served, "/api/runs/resume", run="living").status_code == 200
        assert post(served, "/api/runs/resume", run="living").status_code == 409
        wait_until(lambda least=least: state(served)["iteration"] >= least, 600)  # type: ignore[misc]
        assert (state(served)["state"], state(served)["living"]) == ("training", True)
        assert post(served, "/api/runs/stop", run="living").status_code == 200
        assert post(served, "/api/runs/stop", run="living").status_code == 409
        wait_until(lambda: state(served)["state"] == "stopped", 600)
    begun = post(served, "/api/ship/start", run="living", name="living-1", verify=True).json()
    told = ended(served, "/api/ship/job", begun, run="living")
    assert told["state"] == "done", told["tail"]
    assert (folder / "exports" / "living-1" / "model_index.json").is_file()
    card = httpx.get(f"{served.address}/api/ship/card", params={"run": "living", "name": "living-1"}).json()
    assert "4-step student" in card["card"]


def state(served: Served) -> dict[str, Any]:
    (found,) = [r for r in httpx.get(f"{served.address}/api/runs/list").json()["runs"] if r["name"] == "living"]
    return dict(found)
