"""Trackers of a run, with their real packages: what they hold after a kill, and that none of them stops a run.

Those of trackio and wandb are skipped where the package is not installed. Nothing is sent anywhere.
"""

import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.reporters import Recorded
from tests.run.tracking.toy_runs import (
    Held,
    expected,
    identity,
    in_tensorboard,
    in_trackio,
    in_wandb,
    killed_after_iteration_4,
    tracked_run,
)

READERS: dict[str, Callable[[Path], Held]] = {
    "trackio": in_trackio,
    "wandb": in_wandb,
    "tensorboard": in_tensorboard,
}
HERE = [name for name in READERS if importlib.util.find_spec(name) is not None]
needs_tensorboard = pytest.mark.skipif("tensorboard" not in HERE, reason="tensorboard is not installed")


@pytest.fixture(scope="module", autouse=True)
def on_this_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """trackio's store is where it was told to be when it was imported first, so this is for the whole module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKIO_DIR", str(tmp_path_factory.mktemp("trackio")))
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.delenv("TRACKIO_SPACE_ID", raising=False)
        patch.delenv("TRACKIO_SERVER_URL", raising=False)
        yield


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all trackers that are installed, killed with SIGKILL after its fifth iteration. It goes on from the
    checkpoint of the fourth."""
    if not HERE:
        pytest.skip("no tracker is installed")
    folder = tmp_path_factory.mktemp("resumed") / "run"
    killed_after_iteration_4(folder, HERE)
    assert json.loads((folder / "tracking.json").read_text())["steps"] == {}, "nobody knows what they had written"
    told = Recorded()
    tracked_run(folder, HERE, told)
    assert [text for kind, text in told.said if kind == "warning"] == []
    return folder


@pytest.mark.parametrize("name", READERS)
def test_after_a_kill_a_tracker_holds_every_step_once(resumed: Path, name: str) -> None:
    pytest.importorskip(name)
    held = READERS[name](resumed)
    wanted = expected(resumed)
    assert {key: sorted(held[key]) for key in wanted} == wanted
    twice = {key for key, steps in held.items() if len(set(steps)) != len(steps)}
    assert not twice
    assert json.loads((resumed / "tracking.json").read_text())["steps"][name] == 6


@pytest.mark.parametrize("name", READERS)
def test_a_stopped_run_goes_on_in_its_trackers(tmp_path: Path, name: str) -> None:
    """And a finished one that is called again is left as it is."""
    pytest.importorskip(name)

    def stop(i: int, line: Mapping[str, Any]) -> Literal["stop"] | None:
        return "stop" if i == 2 else None

    run = tmp_path / "run"
    assert tracked_run(run, [name], then=stop).stopped
    begun = identity(run)
    assert READERS[name](run)["distil/critic_loss"] == [1, 2, 3]
    tracked_run(run, [name])
    held, wanted = READERS[name](run), expected(run)
    assert {key: sorted(held[key]) for key in wanted} == wanted
    assert identity(run) == begun
    told = Recorded()
    tracked_run(run, [name], told)
    assert not [text for _, text in told.said if "tracked" in text]
    assert READERS[name](run) == held


@needs_tensorboard
def test_event_files_of_a_stopped_run_are_added_to(tmp_path: Path) -> None:
    tracked_run(tmp_path, ["tensorboard"], then=lambda i, line: "stop" if i == 2 else None)
    (first,) = (tmp_path / "tensorboard").iterdir()
    tracked_run(tmp_path, ["tensorboard"])
    assert first.is_file()
    first.unlink()
    assert in_tensorboard(tmp_path)["distil/critic_loss"] == [4, 5, 6]


@needs_tensorboard
def test_an_open_tensorboard_drops_what_a_killed_start_had_written(resumed: Path, tmp_path: Path) -> None:
    """It has read the event file that is deleted when the run begins anew."""
    (written,) = (resumed / "tensorboard").iterdir()
    earlier = tmp_path / "tensorboard" / "events.out.tfevents.0000000001.earlier.1.0"
    earlier.parent.mkdir()
    shutil.copy(written, earlier)
    shutil.copy(written, earlier.parent)
    wanted = expected(resumed)
    held = in_tensorboard(tmp_path)
    assert {key: held[key] for key in wanted} == wanted


@needs_tensorboard
def test_a_tracker_that_is_named_later_is_sent_the_whole_run(tmp_path: Path) -> None:
    tracked_run(tmp_path, [])
    assert not (tmp_path / "tracking.json").exists()
    tracked_run(tmp_path, ["tensorboard"])
    held, wanted = in_tensorboard(tmp_path), expected(tmp_path)
    assert {key: held[key] for key in wanted} == wanted


@needs_tensorboard
def test_a_tracker_that_cannot_be_opened_is_told_once(tmp_path: Path) -> None:
    told, run = Recorded(), tmp_path / "run"
    tracked_run(run, [], then=lambda i, line: "stop" if i == 2 else None)
    (run / "tensorboard").write_text("a file where the folder should be")
    outcome = tracked_run(run, ["tensorboard"], told)
    assert outcome.iterations == 6
    (warning,) = [text for kind, text in told.said if kind == "warning"]
    assert warning.startswith("tracker tensorboard: ")
    assert json.loads((run / "tracking.json").read_text())["steps"] == {}


@needs_tensorboard
def test_a_tracker_that_fails_on_the_way_is_given_up_and_the_next_start_sends_all(tmp_path: Path) -> None:
    def spoil(i: int, line: Mapping[str, Any]) -> None:
        if i == 1:
            (tmp_path / "samples" / "pictures" / "student-000003-01.png").write_text("no picture")

    told = Recorded()
    assert tracked_run(tmp_path, ["tensorboard"], told, spoil).iterations == 6
    (warning,) = [text for kind, text in told.said if kind == "warning"]
    assert "student-000003-01.png" in warning
    assert max(in_tensorboard(tmp_path)["distil/critic_loss"]) == 3
    (tmp_path / "samples" / "pictures" / "student-000003-01.png").unlink()
    tracked_run(tmp_path, ["tensorboard"])
    held, wanted = in_tensorboard(tmp_path), expected(tmp_path)
    assert {key: held[key] for key in wanted} == wanted
