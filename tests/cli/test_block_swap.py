"""A run with blocks in host memory: it learns what a run without learns, is killed and goes on, examines itself, ships;
and what is refused before it begins."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file

from fewstep.backbones.testing.tiny_qwen_image_21 import qwen_image_21_pipeline
from fewstep.cli.verbs.plan_words import told_plan
from fewstep.run import launch, memory_choice
from fewstep.run.budget.budget import RunNeeds, gpu_budget
from fewstep.run.budget.choice_process import answer
from fewstep.run.budget.gpu_memory import GPUMemory
from fewstep.run.budget.host_blocks import host_blocks
from fewstep.run.budget.needs import changes_to_fit, iteration_time
from fewstep.run.card_memory import CardMemory
from fewstep.run.recipe import load_recipe, parse_recipe
from tests.cli.command_line import fewstep, refused, write_recipe
from tests.run.test_recipes_run import deeper


@pytest.fixture
def swapping(recipe: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """The tiny recipe over a model of four blocks."""
    deeper(qwen_image_21_pipeline()).save_pretrained(tmp_path / "deep")
    run = recipe["run"] | {"gradient_checkpointing": "full", "blocks_to_swap": 3}
    return recipe | {"model": str(tmp_path / "deep"), "run": run}


def distilled(file: str | Path, run: Path, *words: str) -> list[dict[str, Any]]:
    result = fewstep("distill", file, "--out", run, *words)
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("seconds", "time")} for line in lines]


def last(run: Path, name: str) -> dict[str, Any]:
    return dict(load_file(run / "checkpoints" / "iteration-000004" / f"{name}.safetensors"))


@pytest.mark.slow  # three runs, a process that is killed, and one that verifies; tests/run/test_recipes_run.py is not
def test_it_learns_the_same_is_killed_goes_on_and_ships(swapping: dict[str, Any], tmp_path: Path) -> None:
    file = write_recipe(swapping, tmp_path)
    whole, swapped, torn = (tmp_path / name / "run" for name in ("whole", "swapped", "torn"))
    without = distilled(file, whole, "--set", "run.blocks_to_swap=0")
    lines = distilled(file, swapped)
    for one, other in zip(without, lines, strict=True):
        assert other == pytest.approx(one, rel=2e-3) if "loss" in one else True
        assert other.get("student_norm", 0) == pytest.approx(one.get("student_norm", 0), rel=1e-3)

    command = [sys.executable, "-m", "fewstep", "distill", str(file), "--out", str(torn)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 180
    while not (torn / "checkpoints" / "iteration-000002" / "COMPLETE").exists() and process.poll() is None:
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    distilled(file, torn)
    for name in ("student", "student_average", "critic", "student_optimiser", "critic_optimiser"):
        kept = [last(run, name) for run in (swapped, torn)]
        assert kept[0].keys() == kept[1].keys()
        assert all(kept[0][key].equal(kept[1][key]) for key in kept[0]), name
    exported = fewstep("export", swapped, "--to", tmp_path / "student", "--dtype", "fp32", "--verify")
    assert exported.exit_code == 0, exported.output


def test_a_run_may_go_on_with_more_or_fewer_blocks(swapping: dict[str, Any], tmp_path: Path) -> None:
    """They decide where weights are, not what they become."""
    held = parse_recipe(swapping, "tiny")
    assert held.changed({"run.blocks_to_swap": 0}).fingerprint() == held.fingerprint()


def test_more_blocks_than_there_are_are_refused_before_anything_is_loaded(
    swapping: dict[str, Any], tmp_path: Path
) -> None:
    file = write_recipe(swapping, tmp_path)
    for command in ("distill", "plan"):
        result = fewstep(command, file, "--out", tmp_path / "run", "--set", "run.blocks_to_swap=5")
        refused(result, "run.blocks_to_swap is 5, and this model has 4 blocks: give at most 4")
    assert not (tmp_path / "run").exists()


def test_too_little_host_memory_is_refused(
    swapping: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = type("Memory", (), {"available": 1000})()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    result = fewstep("distill", write_recipe(swapping, tmp_path), "--out", tmp_path / "run")
    refused(result, "of host memory are needed for blocks and teachers that wait there", "run.base_weights: int8")


def test_a_plan_tells_what_waits_on_the_host_and_what_travels(swapping: dict[str, Any], tmp_path: Path) -> None:
    few = {"student": swapping["student"] | {"steps": 2}, "tasks": {"t2i": 1, "edit": 0}}
    file = write_recipe(swapping | few, tmp_path)
    words = ("plan", file, "--out", tmp_path / "run", "--tflops", "1000")
    said = " ".join(fewstep(*words, "--pcie", "0.5").output.split())
    assert "page-locked: 3 blocks of base" in said
    assert "at 0.5 GB/s;" in said
    slow, fast = (json.loads(fewstep(*words, "--json", "--pcie", rate).output) for rate in ("0.5", "50"))
    told = slow["transfers"]["t2i"]
    assert told["bytes"] == fast["transfers"]["t2i"]["bytes"] > 5 * slow["host_bytes"]
    assert 0 < told["waited"] <= told["seconds"] == pytest.approx(told["bytes"] / 0.5e9)
    assert slow["hours"] >= fast["hours"]


def of_two_steps(swapping: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """The recipe with `auto` and a single task: every step and every task is more to rehearse."""
    alone = {"tasks": {"t2i": 1, "edit": 0}, "student": swapping["student"] | {"steps": 2}}
    return swapping | alone | {"run": swapping["run"] | {"blocks_to_swap": "auto"} | keys}


def card_for(recipe: dict[str, Any], blocks: float, folder: Path) -> GPUMemory:
    """A card on which so many blocks less fit than the run has, with all on the GPU."""
    all_there = recipe | {"run": recipe["run"] | {"blocks_to_swap": 0}}
    whole = gpu_budget(parse_recipe(all_there, "tiny"), folder)
    sizes = host_blocks(parse_recipe(recipe, "tiny").changed({"run.blocks_to_swap": 4}), whole.size.transformer)
    return GPUMemory((whole.bytes - blocks * max(sizes.swapped["base"])) / 1e9)


@pytest.fixture
def small_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[GPUMemory], None]:
    """Takes this CPU for a GPU of so much memory. What is asked of another process is answered in this one."""

    def takes(card: GPUMemory) -> None:
        monkeypatch.setattr(launch, "card_memory", lambda device: CardMemory(card.gigabytes))
        monkeypatch.setattr(memory_choice, "ask_process", answer)

    return takes


def test_a_run_takes_the_fewest_blocks_and_goes_on_with_them(
    swapping: dict[str, Any], tmp_path: Path, small_gpu: Callable[[GPUMemory], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = of_two_steps(swapping, sample_every_iterations=0, iterations=2)
    small_gpu(card_for(recipe, 0.5, tmp_path))
    file, run = write_recipe(recipe, tmp_path), tmp_path / "auto" / "run"
    begun = fewstep("distill", file, "--out", run)
    assert begun.exit_code == 0, begun.output
    assert "3 blocks of the base wait in host memory" in " ".join(begun.output.split())
    assert load_recipe(run / "recipe.yaml").run.blocks_to_swap == 3
    monkeypatch.setattr(memory_choice, "ask_process", None)  # nothing is asked again, whatever the GPU
    again = fewstep("distill", file, "--out", run)
    assert again.exit_code == 0, again.output
    assert "wait in host memory" not in again.output
    assert load_recipe(run / "recipe.yaml").run.blocks_to_swap == 3


def test_a_gpu_that_is_too_small_for_any_number_is_refused(
    swapping: dict[str, Any], tmp_path: Path, small_gpu: Callable[[GPUMemory], None]
) -> None:
    recipe = of_two_steps(swapping)
    small_gpu(card_for(recipe, 2.5, tmp_path))
    result = fewstep("distill", write_recipe(recipe, tmp_path), "--out", tmp_path / "run")
    refused(result, "run.blocks_to_swap: auto finds no number that fits", "with 4 blocks in host memory, the most that")
    assert not (tmp_path / "run").exists()


def test_too_little_host_memory_for_what_was_chosen_is_refused(
    swapping: dict[str, Any], tmp_path: Path, small_gpu: Callable[[GPUMemory], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = of_two_steps(swapping)
    small_gpu(card_for(recipe, 0.5, tmp_path))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000})())
    result = fewstep("distill", write_recipe(recipe, tmp_path), "--out", tmp_path / "run")
    refused(result, "GB are free. Free memory, or round the base with run.base_weights: int8")
    assert not (tmp_path / "run").exists()


def test_on_a_cpu_auto_is_none_and_told(swapping: dict[str, Any], tmp_path: Path) -> None:
    recipe = of_two_steps(swapping, sample_every_iterations=0, iterations=1, save_every_iterations=1)
    result = fewstep("distill", write_recipe(recipe, tmp_path), "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "no block of the base waits in host memory, since" in " ".join(result.output.split())
    assert load_recipe(tmp_path / "run" / "recipe.yaml").run.blocks_to_swap == 0


def test_a_plan_shows_what_was_compared(swapping: dict[str, Any], tmp_path: Path) -> None:
    recipe = parse_recipe(of_two_steps(swapping), "tiny")
    told = {}
    for name, blocks in (("all", -1.0), ("some", 1.5), ("none", 2.5)):
        card = card_for(of_two_steps(swapping), blocks, tmp_path)
        budget = gpu_budget(recipe, tmp_path, card=card)
        told[name] = told_plan(RunNeeds(budget, card, (), iteration_time(budget, None, None, 1000)))
    table = told["some"].tables[0]
    assert table.title == "run.blocks_to_swap: auto, at the longest sequences"
    swapped, hours = table.columns.index("swapped"), table.columns.index("hours")
    assert [(row[swapped], bool(row[hours]), row[-1]) for row in table.rows] == [
        ("0", False, "does not fit"), ("4", True, "[bold green]taken[/]")
    ]  # fmt: skip
    assert [row[swapped] for row in told["all"].tables[0].rows] == ["0"]
    lines = {name: "\n".join(one.lines) for name, one in told.items()}
    assert "0 of 4 blocks of the base wait in host memory: all fit on the GPU" in lines["all"]
    assert "4 of 4 blocks of the base wait in host memory: the fewest with which it fits" in lines["some"]
    assert "auto finds no number that fits: 0.0 GB are missing with 4 of 4 blocks" in lines["none"]
    assert "page-locked: 4 blocks of base" in lines["some"]
    assert (told["all"].fits, told["some"].fits, told["none"].fits) == (True, True, False)
    read = json.loads(told["some"].json_text)
    assert read["blocks_to_swap"] == 4
    assert [setting["swapped"] for setting in read["memory_settings"]] == [0, 4]


def test_a_plan_without_a_card_counts_none(swapping: dict[str, Any], tmp_path: Path) -> None:
    file = write_recipe(of_two_steps(swapping), tmp_path)
    planned = json.loads(fewstep("plan", file, "--out", tmp_path / "run", "--json").output)
    assert planned["blocks_to_swap"] == 0
    assert "run.blocks_to_swap: auto is counted as 0, since no GPU is named (--gpu)" in planned["notes"]


def test_sharding_is_no_remedy_where_blocks_wait(swapping: dict[str, Any], tmp_path: Path) -> None:
    """It would be refused beside them."""
    recipe = of_two_steps(swapping)
    plan = parse_recipe(recipe | {"run": recipe["run"] | {"batch": 2}}, "tiny")
    budget = gpu_budget(plan, tmp_path, gpus=2, card=GPUMemory(0))
    assert budget.recipe.run.blocks_to_swap == 4
    assert not changes_to_fit(budget, GPUMemory(0))


@pytest.mark.slow  # rehearses the remedies
def test_swap_is_the_remedy_before_weights_are_rounded(swapping: dict[str, Any], tmp_path: Path) -> None:
    alone = {"tasks": {"t2i": 1, "edit": 0}, "student": swapping["student"] | {"steps": 2}}
    run = swapping["run"] | {"blocks_to_swap": 0, "batch": 1}
    whole = gpu_budget(parse_recipe(swapping | alone | {"run": run}, "tiny"), tmp_path, on_gpu=False)
    a_block = (whole.peaks["t2i"].peak["weights of the base"]) / 6

    class Less(GPUMemory):
        @property
        def bytes(self) -> int:
            return round(whole.bytes - self.gigabytes * a_block)

    assert [change.keys for change in changes_to_fit(whole, Less(0.5))] == ["run.blocks_to_swap: 3"]
    least = [change.keys for change in changes_to_fit(whole, Less(100))]
    assert least[:2] == ["run.blocks_to_swap: 4", "run.base_weights: int8"]
