"""`fewstep plan`: on the tiny teacher's folder whose weights are gone, and for published models that are not here."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fewstep.run.budget.budget import _unsettled, gpu_budget
from fewstep.run.budget.gpu_memory import GPUMemory
from fewstep.run.budget.needs import _steps, changes_to_fit, iteration_time
from fewstep.run.recipe import parse_recipe
from fewstep.runtime.errors import RecipeError, RunError
from fewstep.runtime.parallel import Ranks
from tests.cli.command_line import fewstep, refused, write_recipe


@pytest.fixture
def without_weights(recipe: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    folder = tmp_path / "without-weights"
    shutil.copytree(recipe["model"], folder, ignore=shutil.ignore_patterns("*.safetensors"))
    # Every step is another forward to rehearse, and every task another rehearsal.
    few = {"student": recipe["student"] | {"steps": 2}, "tasks": {"t2i": 1, "edit": 0}}
    return recipe | few | {"model": str(folder)}


BOTH = {"tasks": {"t2i": 1, "edit": 1}}


def test_it_forecasts_a_model_without_weights(without_weights: dict[str, Any], tmp_path: Path) -> None:
    result = fewstep(
        "plan",
        write_recipe(without_weights | BOTH, tmp_path),
        "--json",
        "--out",
        tmp_path / "run",
        "--seconds-per-iteration",
        "9",
    )
    assert result.exit_code == 0, result.output
    plan = json.loads(result.output)
    assert plan["tasks"].keys() == {"t2i", "edit"}
    assert plan["tasks"]["edit"]["tokens"] > plan["tasks"]["t2i"]["tokens"]
    assert plan["tasks"]["t2i"]["iterations"] == 2
    assert plan["hours"] == pytest.approx(4 * 9 / 3600, abs=1e-3)
    parts = plan["tasks"]["t2i"]["parts"]
    assert parts["optimiser of the student"] == pytest.approx(2 * parts["weights of the student"], rel=0.01)
    assert plan["checkpoint_bytes"] == pytest.approx(7 * parts["weights of the student"], rel=0.01)
    assert plan["student_bytes"] == pytest.approx(parts["weights of the student"], rel=0.01)
    assert plan["disk_bytes"] >= plan["checkpoint_bytes"]
    assert plan["store_bytes"] > 0
    assert plan["fits"] is None


def test_memory_is_that_of_the_longest_layout_and_work_that_of_the_mean(
    without_weights: dict[str, Any], tmp_path: Path
) -> None:
    large, small = {"size": [128, 128], "weight": 1}, {"size": [64, 64], "weight": 20}

    def planned(sizes: list[dict[str, Any]]) -> dict[str, Any]:
        data = without_weights["data"] | {"t2i": [{"source": "not-there.jsonl"}], "sizes": {"t2i": sizes}}
        file = write_recipe(without_weights | {"data": data}, tmp_path)
        result = fewstep("plan", file, "--json", "--out", tmp_path / "run")
        assert result.exit_code == 0, result.output
        return dict(json.loads(result.output)["tasks"]["t2i"])

    both, of_large, of_small = planned([large, small]), planned([large]), planned([small])
    assert both["peak_bytes"] == of_large["peak_bytes"] > of_small["peak_bytes"]
    assert both["flops_per_iteration"] == of_small["flops_per_iteration"] < of_large["flops_per_iteration"]
    assert both["tokens"] - both["tokens_of_mean_length"] == 64 - 16


def test_a_plan_tells_of_its_layouts(without_weights: dict[str, Any], tmp_path: Path) -> None:
    data = without_weights["data"] | {"sizes": {"t2i": [{"size": [64, 64]}, {"size": [32, 64]}]}}
    result = fewstep("plan", write_recipe(without_weights | {"data": data}, tmp_path), "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "text to image: 4 cases of 2 layouts, by size" in result.output
    assert "tokens of a sample, mean" in result.output or "tokens of a sample, longest" in result.output


def test_what_does_not_fit_ends_with_2_and_names_what_would(without_weights: dict[str, Any], tmp_path: Path) -> None:
    plan = parse_recipe(without_weights | {"run": without_weights["run"] | {"batch": 4}}, "tiny")
    whole = gpu_budget(plan, tmp_path, on_gpu=False)

    class Small(GPUMemory):
        @property
        def bytes(self) -> int:
            return int(whole.bytes * 0.55)

    made = changes_to_fit(whole, Small(1))
    assert [change.keys for change in made[:3]] == [
        "run.gradient_checkpointing: selective",
        "run.gradient_checkpointing: full",
        "run.gradient_accumulation: 2 (or --gpus 2)",
    ]
    assert made[-1].fits
    assert [change.bytes for change in made] == sorted((change.bytes for change in made), reverse=True)
    large = ["size=[256, 256]", "run.batch=512", "tasks={t2i: 1, edit: 0}", "run.gradient_checkpointing=full"]
    words = [word for key in large for word in ("--set", key)]
    result = fewstep("plan", write_recipe(without_weights, tmp_path), "--gpu", "1", "--out", tmp_path / "run", *words)
    assert result.exit_code == 2, result.output
    assert "does not fit" in result.output


def test_auto_without_a_card_is_counted_as_full_and_said(without_weights: dict[str, Any], tmp_path: Path) -> None:
    run = without_weights["run"] | {"gradient_checkpointing": "auto"}
    budget = gpu_budget(parse_recipe(without_weights | {"run": run}, "tiny"), tmp_path, on_gpu=False)
    assert budget.recipe.run.recomputation("t2i") == "full"
    assert budget.notes == ("run.gradient_checkpointing: auto is counted as full, since no GPU is named (--gpu)",)
    sharded = parse_recipe(without_weights | {"run": run | {"sharding": "full"}}, "tiny")
    assert _unsettled(sharded, GPUMemory(24), Ranks(0, 1, 1)) is None
    assert _unsettled(sharded, GPUMemory(24), Ranks(0, 2, 2)) == "the choice is for weights that lie whole on each GPU"


@pytest.mark.slow
def test_auto_is_a_table_of_what_there_is_to_choose(without_weights: dict[str, Any], tmp_path: Path) -> None:
    words = ["--set", "run.gradient_checkpointing=auto", "--gpu", "24", "--out", tmp_path / "run"]
    file = write_recipe(without_weights, tmp_path)
    result = fewstep("plan", file, *words, "--seconds-per-iteration", "9")
    assert result.exit_code == 0, result.output
    rows = [line.split("│")[1:-1] for line in result.output.splitlines() if "t2i " in line and "PFLOP" not in line]
    assert [row[1].strip() for row in rows[:3]] == ["off", "selective", "full"]
    assert rows[0][-1].strip() == "taken"
    assert "hours" not in fewstep("plan", file, *words).output.partition("memory at the fullest")[0]
    planned = json.loads(fewstep("plan", file, *words, "--json").output)
    assert planned["gradient_checkpointing"] == {"t2i": "off"}
    assert [setting["taken"] for setting in planned["memory_settings"]] == [True, False, False]


def test_compiled_blocks_are_planned_as_others(without_weights: dict[str, Any], tmp_path: Path) -> None:
    plan = parse_recipe(without_weights | {"run": without_weights["run"] | {"compile": True}}, "tiny")
    budget = gpu_budget(plan, tmp_path, on_gpu=False)
    assert _steps(budget, GPUMemory(0))[:2] == [
        {"run.gradient_checkpointing": "selective"},
        {"run.gradient_checkpointing": "full"},
    ]


def test_a_base_of_adapters_alone_is_offered_in_bytes(without_weights: dict[str, Any], tmp_path: Path) -> None:
    """After whatever costs less; never for several GPUs, where weights are sharded first."""
    full = without_weights | {"student": without_weights["student"] | {"mode": "full"}}
    budgets = [gpu_budget(parse_recipe(full, "tiny"), tmp_path, gpus, on_gpu=False) for gpus in (1, 2)]
    every = ([step for step in _steps(budget, GPUMemory(0)) if isinstance(step, dict)] for budget in budgets)
    one, two = ([key for step in steps for key in step] for steps in every)
    assert one.index("student.mode") < one.index("run.base_weights")
    assert "run.base_weights" not in two


def test_samples_are_those_of_a_micro_batch_on_one_gpu(without_weights: dict[str, Any], tmp_path: Path) -> None:
    words = ("plan", write_recipe(without_weights, tmp_path), "--out", tmp_path / "run", "--gpus", "2", "--set")
    result = fewstep(*words, "run.batch=7", "--set", "run.gradient_accumulation=3", "--json")
    assert result.exit_code == 0, result.output
    t2i = json.loads(result.output)["tasks"]["t2i"]
    assert (t2i["samples_per_gpu"], t2i["samples_at_once"]) == (4, 2)
    result = fewstep(*words, "run.batch=7", "--set", "run.gradient_accumulation=4")
    assert result.exit_code == 2
    assert "on 2 ranks, 3 on some of them, cannot be accumulated in 4 parts" in " ".join(result.output.split())


@pytest.mark.slow
def test_a_run_that_its_weights_fill_is_made_smaller_before_its_micro_batches(
    without_weights: dict[str, Any], tmp_path: Path
) -> None:
    full = {role: without_weights[role] | {"mode": "full"} for role in ("student", "critic")}
    run = without_weights["run"] | {"batch": 2, "gradient_checkpointing": "full"}
    plan = parse_recipe(without_weights | full | {"run": run}, "tiny")
    whole = gpu_budget(plan, tmp_path, on_gpu=False)

    class Tiny(GPUMemory):
        @property
        def bytes(self) -> int:
            return 1

    assert [change.keys for change in changes_to_fit(whole, Tiny(1))] == [
        "critic.mode: adapter",
        "student.mode: adapter",
        "run.gradient_accumulation: 2 (or --gpus 2)",
        "run.base_weights: int8",
        "run.batch: 1, run.gradient_accumulation: 1",
    ]


def test_weights_are_sharded_before_anything_is_given_up(without_weights: dict[str, Any], tmp_path: Path) -> None:
    full = {role: without_weights[role] | {"mode": "full"} for role in ("student", "critic")}
    run = without_weights["run"] | {"batch": 2, "gradient_checkpointing": "full"}
    plan = parse_recipe(without_weights | full | {"run": run}, "tiny")
    whole = gpu_budget(plan, tmp_path, gpus=2, on_gpu=False)

    class Less(GPUMemory):
        @property
        def bytes(self) -> int:
            return whole.bytes - 1

    first = changes_to_fit(whole, Less(1))[0]
    assert (first.keys, first.fits) == ("run.sharding: full", True)
    sharded = gpu_budget(plan.changed({"run.sharding": "full"}), tmp_path, gpus=2, on_gpu=False)
    assert sharded.disk.checkpoint == pytest.approx(whole.disk.checkpoint, rel=0.02)
    assert sharded.shard_count("weights of the base") == sharded.shard_count("gradients of the critic") == 2
    assert sharded.shard_count("activations") == 1


def test_hybrid_names_what_it_took_for_a_machine(without_weights: dict[str, Any], tmp_path: Path) -> None:
    hybrid = {"run": without_weights["run"] | {"batch": 6, "sharding": "hybrid"}, "tasks": {"t2i": 1, "edit": 0}}
    words = ("plan", write_recipe(without_weights | hybrid, tmp_path), "--out", tmp_path / "run", "--json", "--gpus")
    plan = json.loads(fewstep(*words, "2").output)
    assert "2 GPUs a machine" in " ".join(plan["notes"])
    assert plan["tasks"]["t2i"]["split_over"]["weights of the base"] == 2
    result = fewstep(*words, "3", "--per-machine", "2")
    assert result.exit_code == 2
    assert "--per-machine" in " ".join(result.output.split())


def test_a_rate_is_declared_or_measured(without_weights: dict[str, Any], tmp_path: Path) -> None:
    budget = gpu_budget(parse_recipe(without_weights | BOTH, "tiny"), tmp_path, on_gpu=False)
    (tmp_path / "metrics.jsonl").write_text(
        "".join(
            json.dumps({"phase": "distil", "iteration": i, "task": task, "seconds": {"iteration": s}}) + "\n"
            for i, (task, s) in enumerate([("t2i", 1.0), ("edit", 3.0), ("t2i", 2.0), ("t2i", 9.0)])
        )
    )
    measured = iteration_time(budget, None, tmp_path, None)
    assert measured is not None
    assert measured.seconds == {"t2i": 2.0, "edit": 3.0}
    assert measured.hours(budget) == pytest.approx(10 / 3600)
    with pytest.raises(RecipeError, match="give one"):
        iteration_time(budget, 1.0, tmp_path, None)
    with pytest.raises(RunError, match="run folder"):
        iteration_time(budget, None, tmp_path / "nowhere", None)


def test_an_unknown_model_is_refused_before_any_case_is_read(without_weights: dict[str, Any], tmp_path: Path) -> None:
    """Cases that could not be read are then not found at fault."""
    data = {"t2i": [{"source": str(tmp_path / "torn.jsonl")}]}
    (tmp_path / "torn.jsonl").write_text("{")
    file = write_recipe(without_weights | {"data": data}, tmp_path)
    refused(fewstep("plan", file, "--out", tmp_path / "run"), "torn.jsonl")
    result = fewstep("plan", file, "--out", tmp_path / "run", "--set", "model=someone/some-model")
    refused(result, "someone/some-model is not on this machine", "qwen-image-2.1")
    assert "torn.jsonl" not in result.output


def test_a_changed_recipe_is_checked(without_weights: dict[str, Any]) -> None:
    plan = parse_recipe(without_weights, "tiny")
    assert plan.changed({"run.batch": 1}).run.batch == 1
    with pytest.raises(RecipeError):
        plan.changed({"run.batch": 0})
