"""`fewstep serve` at the command line: what is refused before a model is loaded, and a student that is served."""

import io
import json
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from rich.console import Console

from fewstep.cli.verbs.serve import serve_student
from fewstep.runtime.errors import EnvironmentRefused
from fewstep.sample.server.limits import Limits
from tests.cli.command_line import fewstep, refused

CALL: dict[str, Any] = {"port": 0, "limits": Limits(), "device": "cpu", "dtype": None, "console": Console(quiet=True)}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"host": "127.0.0.1", "name": None, "aliases": ["gpt-image-1", " "]}, "leave them out"),
        ({"host": "127.0.0.1", "name": "", "aliases": []}, "leave them out"),
        ({"host": "a" * 80, "name": None, "aliases": []}, "cannot be listened at"),
        ({"host": "127.0.0.1", "name": None, "aliases": [], "dtype": "fp8"}, "--dtype is bf16 or fp32"),
    ],
    ids=["an alias of nothing", "a name of nothing", "no host", "no dtype"],
)
def test_what_is_refused_before_a_model_is_loaded(given: dict[str, Any], words: str) -> None:
    with pytest.raises(EnvironmentRefused, match=words):
        serve_student("missing", **CALL | given)


def test_no_student(tmp_path: Path) -> None:
    refused(fewstep("serve", tmp_path), "model_index.json is missing")
    refused(fewstep("serve", "missing"), "no model at 'missing'")


@pytest.fixture
def student(teacher: Path, tmp_path: Path) -> Path:
    """The tiny model with noise levels, and a size of its own."""
    folder = tmp_path / "student"
    folder.mkdir()
    for part in teacher.iterdir():
        (folder / part.name).symlink_to(part)
    (folder / "model_index.json").unlink()
    told = json.loads((teacher / "model_index.json").read_text()) | {"sample_sigmas": [1.0, 0.5]}
    (folder / "model_index.json").write_text(json.dumps(told))
    (folder / "recipe.yaml").write_text("size: [64, 32]\n")
    return folder


def test_a_student_under_its_aliases(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[uvicorn.Server] = []

    class Kept(uvicorn.Server):
        def __init__(self, config: uvicorn.Config) -> None:
            super().__init__(config)
            running.append(self)

    monkeypatch.setattr(uvicorn, "Server", Kept)
    printed = io.StringIO()
    given = {"host": "127.0.0.1", "name": None, "aliases": ["gpt-image-1", "dall-e-3"]}
    options = CALL | given | {"console": Console(file=printed, width=200)}
    thread = threading.Thread(target=serve_student, args=(str(student),), kwargs=options)
    thread.start()
    while thread.is_alive() and not (running and running[0].started):
        time.sleep(0.01)
    address = printed.getvalue().split("at ")[1].split(",")[0]
    with httpx.Client(base_url=address, timeout=60) as http:
        listed = [one["id"] for one in http.get("models").json()["data"]]
        body = {"prompt": "a boat", "model": "dall-e-3", "size": "64x128"}
        over = http.post("images/generations", json=body).json()["error"]
    running[0].should_exit = True
    thread.join()
    assert listed == ["student", "gpt-image-1", "dall-e-3"]
    assert (over["param"], over["code"]) == ("size", "invalid_value")
    assert "at most 4,096 are drawn" in over["message"]  # twice its own area
    assert "such as 32x64, 32x96" in over["message"]
