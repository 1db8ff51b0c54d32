"""One run, one folder: locked, of one recipe, and never half there."""

import os
import time
from pathlib import Path

import pytest

from fewstep.run.cases_pin import CasesPin
from fewstep.run.folder import RunDir
from fewstep.run.recipe import load_recipe
from fewstep.runtime import durable
from fewstep.runtime.errors import EnvironmentRefused, RunError
from tests.full_disk import full_disk
from tests.processes import child_process, wait_until

POCKET = load_recipe("pocket")


# ---- the folder


def test_a_new_run_has_recipe_environment_and_folders(tmp_path: Path) -> None:
    with RunDir.open_or_create(tmp_path / "a" / "b", POCKET, {"device": "cpu", "threads": 1}) as run:
        assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {
            *("recipe.yaml", "environment.json", "checkpoints", "samples", "student", "lock")
        }
        assert load_recipe(run.folder / "recipe.yaml") == POCKET
        (start,) = run.environment()
        assert start["device"] == "cpu"
        assert "torch" in start["versions"]
        assert run.checkpoints.is_dir()
    assert not (run.folder / "lock").exists()


@pytest.mark.parametrize("name", ["model_index.json", "sample_sigmas.json", "pytorch_lora_weights.safetensors"])
def test_a_student_is_no_run_though_it_carries_a_recipe(tmp_path: Path, name: str) -> None:
    (tmp_path / "recipe.yaml").write_text(POCKET.resolved_yaml())
    (tmp_path / name).write_text("{}")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(RunError, match="is a model or a student, and no run"):
        RunDir.open_or_create(tmp_path, load_recipe("pocket", ["student.learning_rate=1e-5"]))
    with pytest.raises(RunError, match="is a model or a student, and no run"):
        RunDir.open(tmp_path)
    assert sorted(tmp_path.iterdir()) == before
    assert load_recipe(tmp_path / "recipe.yaml") == POCKET
    (tmp_path / "metrics.jsonl").touch()  # a run that has begun, and something that its owner laid beside it
    RunDir.open_or_create(tmp_path, POCKET).close()


def pin(identity: str, counts: dict[str, int], order: int = 1, edit: str = "reference") -> CasesPin:
    return CasesPin.of(load_recipe("pocket", [f"data.sizes.edit={edit}"]), identity, counts, order)


def test_cases_are_held_from_the_first_iteration_on(tmp_path: Path) -> None:
    with RunDir.open_or_create(tmp_path, POCKET) as run:
        run.pin_cases(pin("a", {"t2i": 8, "edit": 1}))
        run.pin_cases(pin("b", {"t2i": 7}))  # nothing was made of the others yet
        run.metrics_path.write_text("{}\n")
        run.pin_cases(pin("b", {"t2i": 7}))
        with pytest.raises(RunError, match=r"began with other cases \(7 t2i; now 3 t2i\): put them back.*--fork"):
            run.pin_cases(pin("c", {"t2i": 3}))


def test_sizes_are_held_with_the_cases_and_not_by_the_recipe(tmp_path: Path) -> None:
    """Where they change no case, as in a run whose pictures are all squares, the run goes on."""
    with RunDir.open_or_create(tmp_path, POCKET) as run:
        run.pin_cases(pin("a", {"edit": 7}))
        run.metrics_path.write_text("{}\n")
    with RunDir.open_or_create(tmp_path, load_recipe("pocket", ["data.sizes.edit=recipe"])) as run:
        run.pin_cases(pin("a", {"edit": 7}, edit="recipe"))
        with pytest.raises(
            RunError, match=r"at other sizes \(data\.sizes\.edit: recipe -> reference\): take that back.*--fork"
        ):
            run.pin_cases(pin("b", {"edit": 7}))
        with pytest.raises(
            RunError, match=r"other cases \(7 edit; now 3 edit, and data\.sizes\.edit: recipe -> reference\)"
        ):
            run.pin_cases(pin("b", {"edit": 3}))


def test_a_run_of_an_earlier_version_goes_on_where_nothing_changes_for_it(tmp_path: Path) -> None:
    """It knew neither sizes of edits nor batches of several layouts, so it has no record of them."""
    with RunDir.open_or_create(tmp_path, POCKET) as run:
        run.metrics_path.write_text("{}\n")
        held = '{"identity": "a", "cases": {"edit": 7}}'
        (tmp_path / "cases.json").write_text(held)
        with pytest.raises(RunError, match=r"data\.sizes\.edit: recipe -> reference\): take that back"):
            run.pin_cases(pin("b", {"edit": 7}))
        with pytest.raises(RunError, match=r"earlier version, which made batches .* in another order.*--fork"):
            run.pin_cases(pin("a", {"edit": 7}, order=2))
        assert (tmp_path / "cases.json").read_text() == held
        run.pin_cases(pin("a", {"edit": 7}))


def test_the_same_recipe_goes_on_and_each_start_is_noted(tmp_path: Path) -> None:
    RunDir.open_or_create(tmp_path, POCKET).close()
    (tmp_path / "checkpoints" / "kept").touch()
    elsewhere = load_recipe("pocket", ["run.device=cpu", "run.keep_checkpoints=7"])
    with RunDir.open_or_create(tmp_path, elsewhere) as run:
        assert len(run.environment()) == 2
        assert (run.checkpoints / "kept").exists()
    assert RunDir.open(tmp_path).recipe == elsewhere


@pytest.mark.parametrize("made", ["metrics.jsonl", "checkpoints/10", "samples/0.png"])
def test_another_recipe_is_refused_with_the_difference(tmp_path: Path, made: str) -> None:
    RunDir.open_or_create(tmp_path, POCKET).close()
    (tmp_path / made).touch()
    before = (tmp_path / "recipe.yaml").read_bytes()
    with pytest.raises(RunError) as refused:
        RunDir.open_or_create(tmp_path, load_recipe("pocket", ["run.seed=1", "run.device=cpu"]))
    assert "run.seed: 0 -> 1" in str(refused.value)
    assert "device" not in str(refused.value)
    assert (tmp_path / "recipe.yaml").read_bytes() == before
    RunDir.open_or_create(tmp_path, POCKET).close()


def test_a_recipe_may_be_mended_before_anything_was_made(tmp_path: Path) -> None:
    RunDir.open_or_create(tmp_path, POCKET).close()
    mended = load_recipe("pocket", ["data.t2i.0.source=here.jsonl"])
    RunDir.open_or_create(tmp_path, mended).close()
    assert RunDir.open(tmp_path).recipe == mended


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunError, match=r"is not empty and no run \(thesis\.tex is in it\); choose another --out"):
        RunDir.open_or_create(tmp_path, POCKET)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(RunError, match="is a file"):
        RunDir.open_or_create(tmp_path / "thesis.tex", POCKET)
    with pytest.raises(RunError, match="is no run folder"):
        RunDir.open(tmp_path)


def test_an_interrupted_start_is_no_foreign_folder(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "lock").write_text("process 1 on nowhere\n")
    (tmp_path / ".recipe.yaml.7.tmp").write_text("na")
    RunDir.open_or_create(tmp_path, POCKET).close()
    assert RunDir.open(tmp_path).recipe == POCKET


def test_a_recipe_of_another_version_is_named(tmp_path: Path) -> None:
    RunDir.open_or_create(tmp_path, POCKET).close()
    with (tmp_path / "recipe.yaml").open("a") as file:
        file.write("warp: 9\n")
    (tmp_path / "metrics.jsonl").touch()
    for attempt in (lambda: RunDir.open(tmp_path), lambda: RunDir.open_or_create(tmp_path, POCKET)):
        with pytest.raises(RunError, match=r"perhaps of another version of fewstep:\n.*warp is no key"):
            attempt()


# ---- the lock


def test_two_processes_do_not_share_a_run(tmp_path: Path) -> None:
    with RunDir.open_or_create(tmp_path, POCKET):
        with pytest.raises(RunError, match=f"is in use by process {os.getpid()} on "):
            RunDir.open_or_create(tmp_path, POCKET)
        assert RunDir.open(tmp_path).metrics() == [], "reading needs no lock"
    RunDir.open_or_create(tmp_path, POCKET).close()


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    def hold() -> None:
        run = RunDir.open_or_create(tmp_path, POCKET)
        (run.folder / "samples" / "held").touch()
        time.sleep(60)

    with child_process(hold) as other:
        wait_until((tmp_path / "samples" / "held").exists)
        with pytest.raises(RunError, match=f"is in use by process {other} on"):
            RunDir.open_or_create(tmp_path, POCKET)
    assert (tmp_path / "lock").read_text().startswith(f"process {other} "), "it could not tidy up"
    with RunDir.open_or_create(tmp_path, POCKET) as run:
        assert len(run.environment()) == 2


# ---- disks


def test_a_full_disk_leaves_no_half_run(tmp_path: Path) -> None:
    with full_disk(room=200), pytest.raises(EnvironmentRefused, match="Free some space, or choose another disk"):
        RunDir.open_or_create(tmp_path / "run", POCKET)
    assert not (tmp_path / "run").exists()


def test_a_full_disk_does_not_harm_a_run_that_is_there(tmp_path: Path) -> None:
    RunDir.open_or_create(tmp_path, POCKET).close()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with full_disk(room=200), pytest.raises(EnvironmentRefused):
        RunDir.open_or_create(tmp_path, POCKET)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file() and path.name != "lock"}
    assert after == before
    RunDir.open_or_create(tmp_path, POCKET).close()


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "run", Path("/proc/fewstep-run")):
        with pytest.raises(EnvironmentRefused, match="cannot be written"):
            RunDir.open_or_create(place, POCKET)


# ---- metrics


def test_lines_survive_a_torn_one(tmp_path: Path) -> None:
    run = RunDir.open_or_create(tmp_path, POCKET)
    durable.append_jsonl(run.metrics_path, {"iteration": 0, "loss": float("nan"), "parts": [1.0, float("inf")]})
    with run.metrics_path.open("ab") as file:
        file.write('{"iteration": 1, "name": "Ö'.encode()[:-1])
    assert run.metrics() == [{"iteration": 0, "loss": None, "parts": [1.0, None]}]
    durable.append_jsonl(run.metrics_path, {"iteration": 1})
    assert [line["iteration"] for line in run.metrics()] == [0, 1]
    assert run.metrics_path.read_bytes().count(b"\n") == 3
    run.close()
