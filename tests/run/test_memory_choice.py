"""`run.gradient_checkpointing: auto` is settled once, told, and kept by the run."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fewstep.run import memory_choice
from fewstep.run.budget.choice_process import answer
from fewstep.run.memory_choice import ask_process, settle_memory, usable_gigabytes
from fewstep.run.recipe import Recipe, load_recipe
from fewstep.runtime.errors import EnvironmentRefused, RecipeError
from fewstep.runtime.parallel import SINGLE_RANK, Ranks
from tests.reporters import Recorded

CPU = torch.device("cpu")
SETTINGS = [
    {"task": "t2i", "recomputation": "off", "parts": 4, "bytes": 62 * 10**9, "flops": 5 * 10**15, "fits": True},
    {"task": "edit", "recomputation": "off", "parts": 4, "bytes": 101 * 10**9, "flops": 10**16, "fits": False},
    {"task": "edit", "recomputation": "selective", "parts": 1, "bytes": 70 * 10**9, "flops": 10**16, "fits": True},
]
TAKEN = [one | {"taken": one["fits"]} for one in SETTINGS]


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe("pocket", {"run.gradient_checkpointing": "auto", "run.device": "cpu"})


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A GPU of 80 GB beside this process, and what the other process was asked. It answers SETTINGS."""
    asked: list[Any] = []
    monkeypatch.setattr(memory_choice, "usable_gigabytes", lambda device: 79)
    monkeypatch.setattr(memory_choice, "ask_process", lambda request: asked.append(request) or {"settings": TAKEN})
    return asked


def test_what_is_asked_for_by_name_stays(recipe: Recipe, tmp_path: Path) -> None:
    plain = recipe.changed({"run.gradient_checkpointing": "selective"})
    assert settle_memory(plain, tmp_path, CPU, SINGLE_RANK) is plain


def test_without_a_known_card_the_setting_of_least_memory_is_declared(recipe: Recipe, tmp_path: Path) -> None:
    said = Recorded()
    assert usable_gigabytes(CPU) is None
    settled = settle_memory(recipe, tmp_path, CPU, SINGLE_RANK, said)
    assert settled.run.gradient_checkpointing == {"t2i": "full", "edit": "full"}
    assert settled.run.gradient_accumulation == 1
    assert len(said.said) == 1
    assert "whole blocks again, since how much memory may be used is known of GPUs alone" in said.said[0][1]


def test_each_task_has_what_fits_it_and_it_is_told(recipe: Recipe, tmp_path: Path, gpu: list[Any]) -> None:
    said = Recorded()
    settled = settle_memory(recipe, tmp_path / "run", CPU, Ranks(0, 2, 2), said)
    assert settled.run.recomputation_by_task == {"t2i": "off", "edit": "selective"}
    assert settled.run.gradient_accumulation == {"t2i": 4, "edit": 1}
    t2i, edit = (text for _, text in said.said)
    assert t2i.startswith("t2i: the backward pass computes nothing again, batches run in 4 parts: 62.0 of 79 GB")
    assert edit.startswith("edit: the backward pass computes all but large products and attention again, batches run ")
    (request,) = gpu
    assert (request["gigabytes"], request["gpus"], request["place"]) == (79, 2, str(tmp_path / "store"))


def test_a_run_goes_on_with_what_it_began_with(recipe: Recipe, tmp_path: Path, gpu: list[Any]) -> None:
    begun = settle_memory(recipe, tmp_path, CPU, SINGLE_RANK)
    (tmp_path / "recipe.yaml").write_text(begun.resolved_yaml())
    gpu.clear()
    said = Recorded()
    assert settle_memory(recipe, tmp_path, CPU, SINGLE_RANK, said) == begun
    assert (gpu, said.said) == ([], [])
    assert begun.fingerprint() == recipe.fingerprint(), "weights do not depend on it"


def test_sharded_weights_are_left_at_the_least(recipe: Recipe, tmp_path: Path, gpu: list[Any]) -> None:
    said = Recorded()
    sharded = recipe.changed({"run.sharding": "full"})
    assert settle_memory(sharded, tmp_path, CPU, Ranks(0, 2, 2), said).run.recomputation("edit") == "full"
    assert gpu == []
    assert "weights that lie whole on each GPU" in said.said[0][1]


def test_nothing_that_fits_is_refused_before_the_run(
    recipe: Recipe, tmp_path: Path, gpu: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    none = [one | {"taken": False, "fits": False} for one in SETTINGS]
    monkeypatch.setattr(memory_choice, "ask_process", lambda request: {"settings": none})
    with pytest.raises(RecipeError, match=r"no setting that fits 79 GB .*: t2i would take 62\.0 GB at least"):
        settle_memory(recipe, tmp_path, CPU, SINGLE_RANK)
    monkeypatch.setattr(memory_choice, "ask_process", lambda request: {"refused": "cases.jsonl:3: no picture"})
    with pytest.raises(RecipeError, match=r"auto could not be settled: cases\.jsonl:3: no picture"):
        settle_memory(recipe, tmp_path, CPU, SINGLE_RANK)


def request_for(recipe: Recipe, folder: Path) -> dict[str, Any]:
    small = {"data.t2i.0.source": "pocket:t2i:2", "tasks": {"t2i": 1, "edit": 0}, "student.init_from": None}
    resolved = recipe.changed(small | {"student.steps": 2, "teachers.named": {}, "critic.updates": 1}).resolved()
    return {"recipe": resolved, "place": str(folder), "gpus": 1, "per_machine": 1, "gigabytes": 24}


def test_what_speaks_against_the_recipe_is_answered(recipe: Recipe, tmp_path: Path) -> None:
    told = answer(request_for(recipe, tmp_path) | {"gpus": 100})["refused"]
    assert told.startswith("run.batch 16 leaves some of the 100 ranks without a sample")


@pytest.mark.slow
def test_the_other_process_rehearses_the_recipe(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also from a worker of a torchrun, whose variables it must not see."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    (setting,) = ask_process(request_for(recipe, tmp_path))["settings"]
    assert (setting["task"], setting["recomputation"], setting["parts"], setting["taken"]) == ("t2i", "off", 1, True)
    with pytest.raises(EnvironmentRefused, match="could not be rehearsed for run"):
        ask_process({"recipe": {}})
