"""`run.gradient_checkpointing: auto` and `run.blocks_to_swap: auto` are settled once, told, and kept by the run."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fewstep.run import memory_choice
from fewstep.run.budget.choice_process import answer
from fewstep.run.card_memory import CardMemory, card_memory, least_memory, memory_left
from fewstep.run.memory_choice import ask_process, settle_memory
from fewstep.run.recipe import Recipe, load_recipe
from fewstep.runtime.errors import EnvironmentRefused, RecipeError
from fewstep.runtime.parallel import SINGLE_RANK, Ranks
from tests.reporters import Recorded

CPU, CARD = torch.device("cpu"), CardMemory(79)


def tried(task: str, how: str, parts: int, gigabytes: int, swapped: int = 0, fits: bool = True) -> dict[str, Any]:
    work = 10**16 if task == "edit" else 5 * 10**15
    one = {"task": task, "recomputation": how, "parts": parts, "bytes": gigabytes * 10**9, "flops": work}
    return one | {"fits": fits, "taken": fits, "swapped": swapped}


def answered(settings: list[dict[str, Any]], blocks: int = 0) -> dict[str, Any]:
    return {"settings": settings, "blocks_to_swap": blocks, "host_bytes": 6 * 10**9 if blocks else 0}


SETTINGS = [
    tried("t2i", "off", 4, 62),
    tried("edit", "off", 4, 101, fits=False),
    tried("edit", "selective", 1, 70),
]
SWAPPED = [
    tried("t2i", "full", 4, 60) | {"taken": False},
    tried("t2i", "selective", 2, 75, swapped=9),
    tried("edit", "full", 4, 85, fits=False),
    tried("edit", "full", 4, 78, swapped=9),
]


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe("pocket", {"run.gradient_checkpointing": "auto", "run.device": "cpu"})


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A GPU of 80 GB beside this process, and what the other process was asked. It answers SETTINGS, or SWAPPED where
    blocks may be swapped."""
    asked: list[Any] = []

    def ask(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request)
        return answered(SWAPPED, 9) if request["recipe"]["run"]["blocks_to_swap"] == "auto" else answered(SETTINGS)

    monkeypatch.setattr(memory_choice, "ask_process", ask)
    return asked


def test_what_is_asked_for_by_name_stays(recipe: Recipe, tmp_path: Path) -> None:
    plain = recipe.changed({"run.gradient_checkpointing": "selective"})
    assert settle_memory(plain, tmp_path, CARD, SINGLE_RANK) is plain


def test_without_a_known_card_the_setting_of_least_memory_is_declared(recipe: Recipe, tmp_path: Path) -> None:
    said = Recorded()
    assert card_memory(CPU) is None
    settled = settle_memory(recipe, tmp_path, None, SINGLE_RANK, said)
    assert settled.run.gradient_checkpointing == {"t2i": "full", "edit": "full"}
    assert settled.run.gradient_accumulation == 1
    assert len(said.said) == 1
    assert "whole blocks again, since how much memory may be used is known of GPUs alone" in said.said[0][1]


def test_each_task_has_what_fits_it_and_it_is_told(recipe: Recipe, tmp_path: Path, gpu: list[Any]) -> None:
    said = Recorded()
    settled = settle_memory(recipe, tmp_path / "run", CARD, Ranks(0, 2, 2), said)
    assert settled.run.recomputation_by_task == {"t2i": "off", "edit": "selective"}
    assert settled.run.gradient_accumulation == {"t2i": 4, "edit": 1}
    t2i, edit = (text for _, text in said.said)
    assert t2i.startswith("t2i: the backward pass computes nothing again, batches run in 4 parts: 62.0 of 79 GB")
    assert edit.startswith("edit: the backward pass computes all but large products and attention again, batches run ")
    (request,) = gpu
    assert (request["gigabytes"], request["gpus"], request["place"]) == (79, 2, str(tmp_path / "store"))


def test_a_run_goes_on_with_what_it_began_with(recipe: Recipe, tmp_path: Path, gpu: list[Any]) -> None:
    begun = settle_memory(recipe, tmp_path, CARD, SINGLE_RANK)
    (tmp_path / "recipe.yaml").write_text(begun.resolved_yaml())
    gpu.clear()
    said = Recorded()
    assert settle_memory(recipe, tmp_path, CARD, SINGLE_RANK, said) == begun
    assert (gpu, said.said) == ([], [])
    assert begun.fingerprint() == recipe.fingerprint(), "weights do not depend on it"


def test_more_ranks_than_a_run_began_with_make_no_more_parts_than_they_have_samples(
    recipe: Recipe, tmp_path: Path, gpu: list[Any]
) -> None:
    begun = settle_memory(recipe, tmp_path, CARD, SINGLE_RANK)
    assert begun.run.gradient_accumulation == {"t2i": 4, "edit": 1}
    (tmp_path / "recipe.yaml").write_text(begun.resolved_yaml())
    on_more = settle_memory(recipe, tmp_path, CARD, Ranks(0, recipe.run.batch // 2, 8))
    assert on_more.run.gradient_accumulation == {"t2i": 2, "edit": 1}
    assert on_more.run.gradient_checkpointing == begun.run.gradient_checkpointing
    assert on_more.fingerprint() == begun.fingerprint()


def test_sharded_weights_are_left_at_the_least(recipe: Recipe, tmp_path: Path, gpu: list[Any]) -> None:
    said = Recorded()
    sharded = recipe.changed({"run.sharding": "full"})
    assert settle_memory(sharded, tmp_path, CARD, Ranks(0, 2, 2), said).run.recomputation("edit") == "full"
    assert gpu == []
    assert "weights that lie whole on each GPU" in said.said[0][1]


def test_nothing_that_fits_is_refused_before_the_run(
    recipe: Recipe, tmp_path: Path, gpu: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    none = [one | {"taken": False, "fits": False} for one in SETTINGS]
    monkeypatch.setattr(memory_choice, "ask_process", lambda request: answered(none))
    with pytest.raises(RecipeError, match=r"no setting that fits 79 GB .*: edit would take 70\.0 GB at least"):
        settle_memory(recipe, tmp_path, CARD, SINGLE_RANK)
    none = [one | {"taken": False, "fits": False, "bytes": one["bytes"] + 10**10} for one in SWAPPED]
    monkeypatch.setattr(memory_choice, "ask_process", lambda request: answered(none, 9))
    words = r"no number that fits 79 GB .*: with 9 blocks .* edit would take 88\.0 GB at least, 9\.0 GB too much"
    with pytest.raises(RecipeError, match=words):
        settle_memory(swapping(recipe), tmp_path, CARD, SINGLE_RANK)
    monkeypatch.setattr(memory_choice, "ask_process", lambda request: {"refused": "cases.jsonl:3: no picture"})
    with pytest.raises(RecipeError, match=r"auto could not be settled: cases\.jsonl:3: no picture"):
        settle_memory(recipe, tmp_path, CARD, SINGLE_RANK)


# ---- blocks


def swapping(recipe: Recipe, **keys: Any) -> Recipe:
    return recipe.changed({"run.blocks_to_swap": "auto"} | keys)


def test_the_number_of_blocks_is_told_and_stays(recipe: Recipe, tmp_path: Path, gpu: list[Any]) -> None:
    said = Recorded()
    settled = settle_memory(swapping(recipe), tmp_path, CARD, SINGLE_RANK, said)
    assert settled.run.blocks_to_swap == 9
    assert settled.run.gradient_checkpointing == {"t2i": "selective", "edit": "full"}
    assert settled.run.gradient_accumulation == {"t2i": 2, "edit": 4}
    blocks, t2i, edit = (text for _, text in said.said)
    assert blocks == (
        "9 blocks of the base wait in host memory, 6.0 GB: with all on this GPU edit would take 85.0 of 79 GB "
        "(run.blocks_to_swap: auto)"
    )
    assert "75.0 of 79 GB" in t2i
    assert "78.0 of 79 GB" in edit
    (tmp_path / "recipe.yaml").write_text(settled.resolved_yaml())
    gpu.clear()
    said = Recorded()
    assert settle_memory(swapping(recipe), tmp_path, CARD, SINGLE_RANK, said) == settled
    assert (gpu, said.said) == ([], [])
    assert settled.fingerprint() == recipe.fingerprint(), "weights do not depend on it"
    named = {"run.gradient_checkpointing": "full", "run.blocks_to_swap": 5}
    assert settle_memory(recipe.changed(named), tmp_path, CARD, SINGLE_RANK).run.blocks_to_swap == 5


def test_none_is_told_too(recipe: Recipe, tmp_path: Path, gpu: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_choice, "ask_process", lambda request: answered(SETTINGS))
    said = Recorded()
    assert settle_memory(swapping(recipe), tmp_path, CARD, SINGLE_RANK, said).run.blocks_to_swap == 0
    assert said.said[0][1].startswith("all blocks of the base stay on this GPU, since they fit")


def test_blocks_alone_are_chosen_for_settings_that_have_a_name(
    recipe: Recipe, tmp_path: Path, gpu: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Recorded()
    named = swapping(recipe, **{"run.gradient_checkpointing": "full"})
    settled = settle_memory(named, tmp_path, CARD, SINGLE_RANK, said)
    assert (settled.run.blocks_to_swap, settled.run.gradient_checkpointing) == (9, "full")
    assert settled.run.gradient_accumulation == named.run.gradient_accumulation
    assert said.said[1][1] == "t2i: 75.0 of 79 GB (this GPU's memory less 7%) by plan"
    monkeypatch.setattr(memory_choice, "ask_process", lambda request: {"refused": "cases.jsonl:3: no picture"})
    with pytest.raises(RecipeError, match=r"^run\.blocks_to_swap: auto could not be settled: cases\.jsonl:3"):
        settle_memory(named, tmp_path, CARD, SINGLE_RANK)


def test_on_a_cpu_no_block_is_swapped(recipe: Recipe, tmp_path: Path) -> None:
    said = Recorded()
    settled = settle_memory(swapping(recipe), tmp_path, None, SINGLE_RANK, said)
    assert (settled.run.blocks_to_swap, settled.run.recomputation("edit")) == (0, "full")
    assert said.said[-1][1].startswith("no block of the base waits in host memory, since how much memory may be used")


def test_a_run_of_one_task_can_be_read_again(
    recipe: Recipe, tmp_path: Path, gpu: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a task without batches computes again must not stand against swapped blocks."""
    alone = [one for one in SWAPPED if one["task"] == "t2i"]
    monkeypatch.setattr(memory_choice, "ask_process", lambda request: answered(alone, 9))
    settled = settle_memory(swapping(recipe, tasks={"t2i": 1, "edit": 0}), tmp_path, CARD, SINGLE_RANK)
    (tmp_path / "recipe.yaml").write_text(settled.resolved_yaml())
    assert load_recipe(tmp_path / "recipe.yaml").run == settled.run


def test_blocks_are_not_named_for_a_run_that_holds_all_it_computes(
    recipe: Recipe, tmp_path: Path, gpu: list[Any]
) -> None:
    begun = settle_memory(recipe, tmp_path, CARD, SINGLE_RANK)
    (tmp_path / "recipe.yaml").write_text(begun.resolved_yaml())
    with pytest.raises(RecipeError, match="blocks_to_swap is 5, and this run began with "):
        settle_memory(recipe.changed({"run.blocks_to_swap": 5}), tmp_path, CARD, SINGLE_RANK)


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


def test_what_other_processes_hold_of_the_card_is_not_planned_with() -> None:
    gigabyte = 10**9
    alone = memory_left(total=80 * gigabyte, free=79_200_000_000, reserved=0)  # a context of its own
    assert (alone, str(alone)) == (CardMemory(74), "74 GB (this GPU's memory less 7%)")
    assert memory_left(total=80 * gigabyte, free=59_500_000_000, reserved=20 * gigabyte) == CardMemory(74)  # all ours
    shared = memory_left(total=80 * gigabyte, free=49_500_000_000, reserved=10 * gigabyte)
    assert str(shared) == "54 GB (this GPU's memory less 7% and the 20.0 GB that other processes hold)"
    assert memory_left(total=24 * gigabyte, free=0, reserved=0).gigabytes == 0


def test_of_several_cards_the_one_with_least_left_counts() -> None:
    cards = [CardMemory(74), CardMemory(54, 20.0), CardMemory(74)]
    assert least_memory(cards) == CardMemory(54, 20.0)
    assert least_memory([CardMemory(74), None]) is None
