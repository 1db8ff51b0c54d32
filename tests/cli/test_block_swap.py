"""A run with blocks in host memory: it learns what a run without learns, is killed and goes on, examines itself, ships;
and what is refused before it begins."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file

from fewstep.backbones.testing.tiny_qwen_image_21 import qwen_image_21_pipeline
from fewstep.run.budget.budget import gpu_budget
from fewstep.run.budget.gpu_memory import GPUMemory
from fewstep.run.budget.needs import changes_to_fit
from fewstep.run.recipe import parse_recipe
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
