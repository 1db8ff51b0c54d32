"""What the studio reads of a run folder: lines that are torn, damaged or replaced, who holds it, how it is doing, and
what it keeps of long curves."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter
from starlette.testclient import TestClient

from fewstep.run.failure import failure_of
from fewstep.run.folder import RunDir
from fewstep.run.recipe import load_recipe
from fewstep.run.studio import studio
from fewstep.run.studio.answers import StudioRefused, json_text
from fewstep.run.studio.app import studio_app
from fewstep.run.studio.curves import BUCKETS, Curves
from fewstep.run.studio.holder import holder_of, interrupt
from fewstep.run.studio.jobs import Jobs
from fewstep.run.studio.metrics_file import LINES, MetricsFile
from fewstep.run.studio.places import RunPlaces
from fewstep.run.studio.recipe_rows import recipe_rows
from fewstep.run.studio.run_pictures import picture_groups
from fewstep.run.studio.run_view import RunView
from fewstep.run.studio.screen_table import SCREENS
from fewstep.run.studio.shift_picture import shift_map
from fewstep.run.studio.studio import Studio
from fewstep.run.studio.thumbnails import small_copy
from fewstep.runtime.errors import Interrupted, RunError, TrainingStopped
from tests.processes import wait_until
from tests.run.studio.small_runs import append, small_run, training_line


def summary(folder: Path) -> dict[str, Any]:
    return RunView("one", folder).summary()


# ---- metrics.jsonl


def test_a_torn_line_is_waited_for_and_a_damaged_one_is_counted(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    assert metrics.update() is False
    append(tmp_path, training_line(0))
    with metrics.path.open("ab") as file:
        file.write(b'{"phase": "distil", "iter')
    assert metrics.update()
    assert (metrics.trained, metrics.last()["iteration"]) == (1, 0)  # type: ignore[index]
    with metrics.path.open("ab") as file:
        file.write(b'ation": 1, "gap": 0.5}\n\xff\xfe\n[3]\n')
    assert metrics.update()
    assert (metrics.trained, metrics.damaged) == (2, 2)
    assert metrics.last() == {"phase": "distil", "iteration": 1, "gap": 0.5}
    assert metrics.update() is False


def test_a_line_that_a_kill_cut_off_hides_no_other(tmp_path: Path) -> None:
    append(tmp_path, training_line(0))
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"phase": "distil", "iter\x18\n')
    append(tmp_path, training_line(1))
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.update()
    assert [line["iteration"] for line in metrics.lines(0, 9)] == [0, 1]


def test_a_run_that_resumes_writes_its_file_anew(tmp_path: Path) -> None:
    append(tmp_path, *(training_line(i) for i in range(9)))
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.update()
    before = metrics.generation
    other = tmp_path / "other"
    other.write_text(json.dumps(training_line(0)) + "\n")
    os.replace(other, metrics.path)
    assert metrics.update()
    assert (metrics.trained, metrics.generation) == (1, before + 1)
    metrics.path.unlink()
    metrics.update()
    assert metrics.trained == 0


def test_long_curves_keep_their_spikes(tmp_path: Path) -> None:
    """A long file is sampled first, read on in parts, and no spike is averaged away."""
    count = 5 * LINES
    with (tmp_path / "metrics.jsonl").open("w") as file:
        for i in range(count):
            gap = 9.0 if i == count // 3 else 0.25
            file.write(json.dumps({"phase": "distil", "iteration": i, "student_step": 0, "gap": gap}) + "\n")
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.update()
    quick, whole = metrics.curves()
    assert not whole
    assert quick.as_dict()["gap @ 0"]
    while not metrics.read_on():
        pass
    curves, whole = metrics.curves()
    points = curves.as_dict()["gap @ 0"]
    assert whole
    assert len(points) <= BUCKETS
    assert max(high for _, _, _, high in points) == 9.0
    assert sum(1 for _, _, _, high in points if high > 1) == 1
    width = curves.by_name["gap @ 0"].width
    assert sum(mean for _, mean, _, _ in points[: count // width]) * width == pytest.approx(
        0.25 * count + 8.75, rel=0.1
    )


def test_curves_of_one_piece_and_of_many_are_equal() -> None:
    lines = [training_line(i) for i in range(1500)]
    once, often = Curves(), Curves()
    once.add(lines)
    for start in range(0, 1500, 7):
        often.add(lines[start : start + 7])
    first, second = once.as_dict(), often.as_dict()
    assert first.keys() == second.keys()
    for name, points in first.items():
        assert [p[0] for p in points] == [p[0] for p in second[name]]
        for left, right in zip(points, second[name], strict=True):
            assert left[1:] == pytest.approx(right[1:], rel=1e-4)


def test_numbers_that_json_has_no_word_for() -> None:
    told = json_text({"a": [float("nan"), float("inf"), 1.5], "b": "\ud800", 3: None})
    assert json.loads(told) == {"a": [None, None, 1.5], "b": "\ud800", "3": None}


# ---- how a run is doing


def test_states_of_a_run(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", trained=24)
    told = summary(run)
    assert (told["state"], told["iteration"], told["iterations"], told["health"]) == ("stopped", 24, 40, "watch")
    assert told["best"] == {"name": "t2i.psnr", "value": 22.0, "iteration": 20, "teacher": 30.0}
    (run / "student" / "model_index.json").write_text("{}")
    assert summary(run)["state"] == "done"
    assert "after 24 of 40" in summary(run)["words"]


def test_a_run_without_a_word_of_its_end_was_killed(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", trained=30)
    (run / "lock").write_text(f"process 4194303 on {socket.gethostname()}\n")
    told = summary(run)
    assert (told["state"], told["health"]) == ("failed", "bad")
    assert "killed" in told["words"]
    (run / "lock").write_text("process 7 on another-machine\n")
    assert summary(run)["state"] == "elsewhere"
    with pytest.raises(StudioRefused, match="another-machine"):
        interrupt(run)


def test_an_error_leaves_its_words_and_the_next_start_takes_them(tmp_path: Path) -> None:
    recipe = load_recipe("pocket")
    with pytest.raises(TrainingStopped), RunDir.open_or_create(tmp_path / "run", recipe):
        raise TrainingStopped("11 updates were not finite")
    told = summary(tmp_path / "run")
    assert (told["state"], told["words"]) == ("failed", "11 updates were not finite")
    with pytest.raises(Interrupted), RunDir.open_or_create(tmp_path / "run", recipe):
        raise Interrupted("stopped by SIGINT", 2)
    assert failure_of(tmp_path / "run") is None
    with pytest.raises(ZeroDivisionError), RunDir.open_or_create(tmp_path / "run", recipe):
        raise ZeroDivisionError("x")
    assert failure_of(tmp_path / "run") == "ZeroDivisionError: x"
    (tmp_path / "run" / "failure.json").write_text('{"words": 5}')
    assert failure_of(tmp_path / "run") is None, "no words that this package wrote"


HOLD = """
import sys, signal, time
from pathlib import Path
from fewstep.run.folder import RunDir
from fewstep.run.recipe import load_recipe
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes inherit it ignored
with RunDir.open_or_create(Path(sys.argv[1]), load_recipe("pocket")):
    print("held", flush=True)
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        print("asked", flush=True)
"""


def test_a_living_process_is_seen_and_asked_to_stop(tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        held = holder_of(tmp_path / "run")
        assert held is not None
        assert (held.process, held.alive) == (process.pid, True)
        told = summary(tmp_path / "run")
        assert (told["state"], told["living"], told["process"]) == ("encoding", True, process.pid)
        assert told["memory"] > 1e6
        interrupt(tmp_path / "run")
        assert process.stdout.readline() == "asked\n"
    wait_until(lambda: holder_of(tmp_path / "run") is None)
    with pytest.raises(StudioRefused, match="nothing to stop"):
        interrupt(tmp_path / "run")


def test_the_memory_of_a_gpu_is_what_its_newest_line_says(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", trained=2)
    assert summary(run)["gpu_memory"] is None
    append(run, training_line(2, gpu_peak_gb=31.5))
    assert summary(run)["gpu_memory"] == 31.5e9


def test_the_summary_is_made_anew_only_when_something_changed(tmp_path: Path) -> None:
    view = RunView("one", small_run(tmp_path / "run", trained=30))
    first = view.summary()
    assert view.summary() is first
    append(view.folder, training_line(30))
    assert view.summary()["iteration"] == 31


GARBAGE = (
    "[]",
    "{}",
    "3",
    '{"iteration": 20}',
    '{"iteration": 20, "figures": 3}',
    '{"iteration": 20, "figures": {"t2i.psnr": "x"}}',
)


@pytest.mark.parametrize(
    "place", ["examination/results/000020.json", "examination/teacher.json", "failure.json", "lock"]
)
@pytest.mark.parametrize("text", GARBAGE)
def test_a_file_of_something_else_hides_no_run(tmp_path: Path, place: str, text: str) -> None:
    """The list has a line for it in any case, and the page is data or a sentence."""
    run = small_run(tmp_path / "runs" / "one", trained=24)
    (run / place).write_text(text)
    append(run, {"phase": "event", "iteration": 3}, {"phase": "examine", "iteration": 20, "t2i.psnr": "high"})
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"phase": "distil", "iteration": 24, "gap": NaN, "seconds": 3, "tasks": 7, "student_step": "x"}\n')
    told = summary(run)
    assert (told["name"], told["state"]) in [("one", "stopped"), ("one", "unreadable")]
    held = Studio(RunPlaces([tmp_path / "runs"]), Jobs(tmp_path / "jobs"))
    with TestClient(studio_app(held, SCREENS, host="testserver"), raise_server_exceptions=False) as http:
        assert len(http.get("/api/runs/list").json()["runs"]) == 1
        for path in ("page", "curves", "figures"):
            answer = http.get(f"/api/run/{path}", params={"run": "one", "iteration": "20"})
            assert answer.status_code == 200 or answer.json()["error"], (path, answer.text[:300])


def test_a_run_that_may_not_be_read_hides_no_other(tmp_path: Path) -> None:
    """Its metrics cannot be opened, another's recipe is no YAML, and figures of pictures are no records."""
    for name in ("one", "shut", "torn"):
        small_run(tmp_path / "runs" / name, trained=3)
    (tmp_path / "runs/shut/metrics.jsonl").unlink()
    (tmp_path / "runs/shut/metrics.jsonl").mkdir()
    (tmp_path / "runs/torn/recipe.yaml").write_text("a: [1, {")
    (tmp_path / "runs/one/examination/results/000020.json").write_text('{"iteration": 20, "records": [1, {"case": 2}]}')
    held = Studio(RunPlaces([tmp_path / "runs"]), Jobs(tmp_path / "jobs"))
    with TestClient(studio_app(held, SCREENS, host="testserver")) as http:
        told = {line["name"]: line for line in http.get("/api/runs/list").json()["runs"]}
        assert told["one"]["state"] == "stopped"
        assert told["shut"]["state"] == "unreadable"
        assert (told["one"]["resumable"], told["one"]["health"]) == (True, "good")
        assert (told["torn"]["resumable"], told["torn"]["health"]) == (False, "bad")
        assert told["torn"]["damage"][0].startswith("recipe.yaml: ")
        assert (told["shut"]["health"], told["one"]["damage"]) == ("bad", [])
        assert told["torn"]["words"].startswith("its recipe.yaml cannot be read, so it cannot be resumed (")
        for iteration in ("20", "9" * 5000):
            assert http.get("/api/run/figures", params={"run": "one", "iteration": iteration}).json() == {}
        (tmp_path / "runs/one/a.png").write_bytes(b"x")
        asked = {"run": "one", "path": "a.png", "side": "9" * 5000}
        assert http.get("/picture", params=asked).status_code == 400


def test_damage_lights_the_lamp(tmp_path: Path) -> None:
    """A line that a kill cut off is none; a line of something else is, and so are results that cannot be read."""
    view = RunView("one", small_run(tmp_path / "one", trained=38))
    assert (view.summary()["health"], view.summary()["damage"]) == ("good", [])
    with view.metrics.path.open("a") as file:
        file.write('{"phase": "distil", "iteration": 7, "gap"\n[3]\n')
    told = view.summary()
    assert (told["health"], told["iteration"]) == ("bad", 38)
    assert told["damage"] == ["2 lines of metrics.jsonl cannot be read, and left out"]
    (view.folder / "examination" / "results" / "000030.json").write_text("{")
    assert view.summary()["damage"][1].startswith("results: ")


def test_a_list_of_long_runs_is_answered_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be read in the time is read by later calls."""
    for name in ("one", "two"):
        small_run(tmp_path / "runs" / name, trained=3)
    held = Studio(RunPlaces([tmp_path / "runs"]), Jobs(tmp_path / "jobs"))
    monkeypatch.setattr(studio, "PATIENCE_SECONDS", -1.0)
    assert [line for _, line in held.summaries()] == [None, None]
    assert held.runs()[0].unread()["state"] == "reading"
    monkeypatch.setattr(studio, "PATIENCE_SECONDS", 60.0)
    assert [line["iteration"] for _, line in held.summaries() if line] == [20, 20]
    monkeypatch.setattr(studio, "PATIENCE_SECONDS", -1.0)
    assert all(line for _, line in held.summaries())


# ---- folders


def test_where_runs_are_looked_for(tmp_path: Path) -> None:
    small_run(tmp_path / "runs" / "study" / "cell", trained=1)
    small_run(tmp_path / "runs" / "one", trained=1)
    student = tmp_path / "runs" / "student"
    student.mkdir()
    (student / "recipe.yaml").write_text("name: x\n")
    (student / "model_index.json").write_text("{}")
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "runs" / "one")
    assert list(RunPlaces([tmp_path / "runs"]).runs()) == ["one", "study/cell"]
    both = RunPlaces([tmp_path / "runs" / "one", tmp_path / "runs" / "study", tmp_path / "missing"])
    assert list(both.runs()) == ["one", "study/cell"]
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file"):
        RunPlaces([tmp_path / "file"])


def test_a_recipe_of_another_version_is_still_shown(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", trained=3)
    (run / "recipe.yaml").write_text("name: old\nmodel: pocket\nno_such_key: 3\nrun: {iterations: 40}\n")
    told = summary(run)
    assert (told["recipe"], told["iterations"]) == ("old", 40)
    (run / "recipe.yaml").write_text("a: [")
    view = RunView("one", run)
    assert view.summary()["recipe"] is None
    assert "recipe.yaml" in view.faults


def test_every_number_says_where_it_comes_from() -> None:
    recipe = load_recipe("pocket", ["run.batch=8"]).resolved()
    rows = {row["key"]: row for row in recipe_rows(recipe)}
    assert rows["run.iterations"]["source"].startswith("ours")
    assert rows["tasks.t2i"]["source"].startswith("paper")
    assert (rows["run.batch"]["changed"], rows["run.batch"]["source"]) == (True, "pocket has 16")
    assert rows["run.batch"]["meaning"]


# ---- pictures


def test_pictures_are_sorted_by_case(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", trained=30)
    (run / "samples" / "cases.json").write_text(json.dumps([{"id": "a", "prompt": "a boat", "task": "t2i"}, 3]))
    groups, faults = picture_groups(run)
    assert not faults
    exam, previews = groups
    assert (exam["moments"], len(exam["cases"])) == ([0, 20], 5)
    assert exam["cases"][-1]["source"][0].startswith("examination/references/")
    assert [one["prompt"] for one in previews["cases"]] == ["a boat", ""]
    assert [each["label"] for each in exam["cases"][0]["fixed"]] == ["teacher", "teacher at 4"]
    assert [each["label"] for each in previews["cases"][0]["fixed"]] == ["teacher", "teacher, 4 steps, no guidance"]
    assert (run / previews["cases"][0]["student"].replace("{moment}", "000020")).is_file()
    shutil.rmtree(run / "examination" / "pictures" / "teacher-at-4")  # a run of an older version
    assert [each["label"] for each in picture_groups(run)[0][0]["cases"][0]["fixed"]] == ["teacher"]
    (run / "examination" / "set.json").write_text("{")
    groups, faults = picture_groups(run)
    assert len(groups) == 1
    assert "cannot be read" in faults[0]


def test_a_small_copy_is_made_once_and_outside_the_run(tmp_path: Path, cache: Path) -> None:
    place = tmp_path / "large.png"
    Image.new("RGB", (1000, 500), (9, 99, 200)).save(place)
    small = small_copy(place, 320)
    assert small.is_relative_to(cache)
    with Image.open(small) as opened:
        assert opened.size == (320, 160)
    made = small.stat().st_mtime_ns
    assert small_copy(place, 320) == small
    assert small.stat().st_mtime_ns == made
    assert small_copy(place, 640) != small
    time.sleep(0.01)
    Image.new("RGB", (1000, 500), (200, 9, 9)).save(place)
    assert small_copy(place, 320) != small
    place.write_bytes(b"no picture")
    with pytest.raises(StudioRefused, match="cannot be read"):
        small_copy(place, 320)


def test_the_shift_map_tells_how_far_parts_moved(tmp_path: Path) -> None:
    """A texture that moved by 3 px to the right and 2 down, but for a flat corner."""
    texture = Image.effect_noise((300, 300), 60).filter(ImageFilter.GaussianBlur(2)).convert("RGB")
    for name, corner in (("a.png", (20, 20)), ("b.png", (17, 18))):
        cut = texture.crop((*corner, corner[0] + 256, corner[1] + 256))
        cut.paste((90, 90, 90), (0, 0, 40, 40))
        cut.save(tmp_path / name)
    told = shift_map(tmp_path, "a.png", "b.png")
    found = {(tile["x"], tile["y"]): (tile["dx"], tile["dy"]) for tile in told["tiles"]}
    assert found[0, 0] == (None, None)
    moved = [pair for pair in found.values() if pair[0] is not None]
    assert len(moved) > 40
    assert np.median([dx for dx, _ in moved]) == pytest.approx(3, abs=0.2)
    assert np.median([dy for _, dy in moved]) == pytest.approx(2, abs=0.2)
    still = shift_map(tmp_path, "a.png", "a.png")
    assert all(not tile["dx"] for tile in still["tiles"])
