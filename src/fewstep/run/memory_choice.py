"""What `run.gradient_checkpointing: auto` and `run.blocks_to_swap: auto` stand for on this machine.

They are chosen once, when a run begins, by what `fewstep plan` counts for its cases, and the run folder keeps the
answer: a run that goes on, on another GPU too, goes on with the settings that it began with. They change no weights, so
a run may also be told others.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fewstep.data.mixture import used_tasks
from fewstep.roles.plan import Recomputation
from fewstep.run.card_memory import CardMemory
from fewstep.run.memory_words import WORDS, blocks_words, choice_words, nothing_fits
from fewstep.run.recipe import Recipe, load_recipe, with_run_keys
from fewstep.runtime.errors import EnvironmentRefused, FewstepError, RecipeError
from fewstep.runtime.parallel import Ranks
from fewstep.runtime.reporter import SILENT, Reporter
from fewstep.runtime.task import TASKS
from fewstep.train.plan import AUTO, AUTO_OF_MEMORY

UNKNOWN: Recomputation = AUTO_OF_MEMORY["gradient_checkpointing"]  # the setting that takes least memory
TORCHRUN = (
    "RANK",
    "LOCAL_",
    "GROUP_",
    "ROLE_",
    "WORLD_SIZE",
    "MASTER_",
    "TORCHELASTIC_",
)  # beginnings of its variables

Choose = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def settle_memory(
    recipe: Recipe, out: Path, card: CardMemory | None, ranks: Ranks, reporter: Reporter = SILENT
) -> Recipe:
    """The recipe with settings for each task, and a number of blocks, in the place of `auto`; any other recipe as it
    is. The reporter is told which, and why.

    Args:
        out: the run folder. What a run that is there began with stays.
        card: what may be used of the GPU with least left; None where that is not known.

    Raises:
        RecipeError: not even the setting of least memory fits this GPU.
    """
    asked = recipe.run.auto_of_memory
    if not asked:
        return recipe
    if (held := _held(out, asked)) is not None:
        return _as_begun(recipe, held, asked, ranks)
    if card is None:
        return _unknown(recipe, "how much memory may be used is known of GPUs alone", reporter)
    if recipe.run.sharding != "off" and ranks.world > 1:
        return _unknown(recipe, "the choice is for weights that lie whole on each GPU", reporter)
    request = {
        "recipe": recipe.resolved(),
        "place": str(recipe.store_folder(out)),
        "gpus": ranks.world,
        "per_machine": ranks.per_machine,
        "gigabytes": card.gigabytes,
    }
    with reporter.waiting(f"rehearsing iterations for {card.gigabytes:g} GB"):
        answer = ask_process(request)
    return _chosen(recipe, answer, card, reporter)


def ask_process(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer of `budget/choice_process.py`, run in a process of its own.

    Raises:
        EnvironmentRefused: the process ended without an answer.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(TORCHRUN)}
    with TemporaryDirectory() as scratch:
        asked, answered = Path(scratch) / "request.json", Path(scratch) / "answer.json"
        asked.write_text(json.dumps(request))
        command = [sys.executable, "-m", "fewstep.run.budget.choice_process", str(asked), str(answered)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode or not answered.is_file():
            last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
            raise EnvironmentRefused(
                "the iteration could not be rehearsed for run.gradient_checkpointing or run.blocks_to_swap: auto "
                f"({last:.200}). Set them to off, selective or full, and to a number"
            )
        return dict(json.loads(answered.read_text()))


def _chosen(recipe: Recipe, answer: Mapping[str, Any], card: CardMemory, reporter: Reporter) -> Recipe:
    keys = recipe.run.auto_of_memory
    if "refused" in answer:
        named = " and ".join(f"run.{key}: {AUTO}" for key in keys)
        raise RecipeError(f"{named} could not be settled: {answer['refused']}")
    taken = {setting["task"]: setting for setting in answer["settings"] if setting["taken"]}
    if lacking := [task for task in used_tasks(recipe.mixture) if task not in taken]:
        raise RecipeError(nothing_fits(answer, lacking, keys, card))
    changes: dict[str, Any] = {}
    if "blocks_to_swap" in keys:
        reporter.say(blocks_words(answer, card))
        changes["blocks_to_swap"] = answer["blocks_to_swap"]
    for task, one in taken.items():
        reporter.say(choice_words(task, one, card, chosen="gradient_checkpointing" in keys))
    if "gradient_checkpointing" in keys:
        recomputed = {task: one["recomputation"] for task, one in taken.items()}
        changes["gradient_checkpointing"] = dict.fromkeys(TASKS, UNKNOWN) | recomputed
        changes["gradient_accumulation"] = {task: one["parts"] for task, one in taken.items()}
    return with_run_keys(recipe, changes)


def _unknown(recipe: Recipe, why: str, reporter: Reporter) -> Recipe:
    changes: dict[str, Any] = {}
    if recipe.run.gradient_checkpointing == AUTO:
        reporter.say(
            f"the backward pass computes {WORDS[UNKNOWN]} again, since {why} (run.gradient_checkpointing: auto). "
            "Where memory allows it, off takes less time"
        )
        changes["gradient_checkpointing"] = dict.fromkeys(TASKS, UNKNOWN)
    if recipe.run.blocks_to_swap == AUTO:
        reporter.say(f"no block of the base waits in host memory, since {why} (run.blocks_to_swap: auto)")
        changes["blocks_to_swap"] = AUTO_OF_MEMORY["blocks_to_swap"]
    return with_run_keys(recipe, changes)


def _as_begun(recipe: Recipe, held: Recipe, asked: Sequence[str], ranks: Ranks) -> Recipe:
    """The recipe with what its run began with. Each of more ranks has fewer samples, and makes no more parts of them.

    Raises:
        RecipeError: that does not go together with the number of blocks that the recipe names now.
    """
    kept = [*asked, *(["gradient_accumulation"] if "gradient_checkpointing" in asked else [])]
    changes = {key: getattr(held.run, key) for key in kept}
    if "gradient_checkpointing" in asked and held.run.most_parts > (most := recipe.run.batch // ranks.world):
        changes["gradient_accumulation"] = {task: min(held.run.parts(task), most) for task in TASKS}
    settled = with_run_keys(recipe, changes)
    if settled.run.swapped_blocks and "off" in settled.run.recomputation_by_task.values():
        raise RecipeError(
            f"run.blocks_to_swap is {settled.run.swapped_blocks}, and this run began with run.gradient_checkpointing: "
            "off, with which every block's weights would stay for its backward pass. Set run.gradient_checkpointing: "
            "full or selective, or run.blocks_to_swap: 0"
        )
    return settled


def _held(folder: Path, asked: Sequence[str]) -> Recipe | None:
    """The recipe that the run in a folder began with, if these keys are settled in it. One that cannot be read is
    refused where the run is opened."""
    file = folder / "recipe.yaml"
    if file.is_file():
        with suppress(FewstepError):
            held = load_recipe(file)
            return None if {*asked} & {*held.run.auto_of_memory} else held
    return None
