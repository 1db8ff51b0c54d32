"""What `run.gradient_checkpointing: auto` stands for on this machine.

It is chosen once, when a run begins, by what `fewstep plan` counts for its cases, and the run folder keeps the answer:
a run that goes on, on another GPU too, goes on with the settings that it began with. They change no weights, so a run
may also be told others.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from fewstep.data.mixture import used_tasks
from fewstep.roles.plan import Recomputation
from fewstep.run.recipe import Recipe, load_recipe
from fewstep.runtime.errors import EnvironmentRefused, FewstepError, RecipeError
from fewstep.runtime.parallel import Ranks
from fewstep.runtime.reporter import SILENT, Reporter
from fewstep.runtime.task import TASKS
from fewstep.train.plan import AUTO

MARGIN = 0.07  # ours, declared: of a GPU's memory, for the CUDA context, libraries and the gaps of the allocator
UNKNOWN: Recomputation = "full"  # where a GPU's memory is not known: the setting that takes least
WORDS = {"off": "nothing", "selective": "all but large products and attention", "full": "whole blocks"}
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


def settle_memory(recipe: Recipe, out: Path, device: torch.device, ranks: Ranks, reporter: Reporter = SILENT) -> Recipe:
    """The recipe with settings for each task in the place of `auto`; any other recipe as it is. The reporter is told
    which, and why.

    Args:
        out: the run folder. What a run that is there began with stays.

    Raises:
        RecipeError: not even the setting of least memory fits this GPU.
    """
    if recipe.run.gradient_checkpointing != AUTO:
        return recipe
    if (held := _held(out)) is not None:
        return _with(recipe, held.run.gradient_checkpointing, held.run.gradient_accumulation)
    gigabytes = usable_gigabytes(device)
    if gigabytes is None:
        return _unknown(recipe, "how much memory may be used is known of GPUs alone", reporter)
    if recipe.run.sharding != "off" and ranks.world > 1:
        return _unknown(recipe, "the choice is for weights that lie whole on each GPU", reporter)
    request = {
        "recipe": recipe.resolved(),
        "place": str(recipe.store_folder(out)),
        "gpus": ranks.world,
        "per_machine": ranks.per_machine,
        "gigabytes": gigabytes,
    }
    with reporter.waiting(f"rehearsing iterations for {gigabytes} GB"):
        answer = ask_process(request)
    return _chosen(recipe, answer, gigabytes, reporter)


def usable_gigabytes(device: torch.device) -> int | None:
    """The memory of a device that a run may use, in GB of 10^9 bytes; None if it is not known."""
    if device.type != "cuda":
        return None
    return int(torch.cuda.get_device_properties(device).total_memory * (1 - MARGIN) / 1e9)


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
                f"the iteration could not be rehearsed for run.gradient_checkpointing: auto ({last:.200}). "
                "Set it to off, selective or full"
            )
        return dict(json.loads(answered.read_text()))


def _chosen(recipe: Recipe, answer: Mapping[str, Any], gigabytes: int, reporter: Reporter) -> Recipe:
    if "refused" in answer:
        raise RecipeError(f"run.gradient_checkpointing: auto could not be settled: {answer['refused']}")
    taken = {setting["task"]: setting for setting in answer["settings"] if setting["taken"]}
    for task in used_tasks(recipe.mixture):
        if task not in taken:
            least = min(one["bytes"] for one in answer["settings"] if one["task"] == task)
            raise RecipeError(
                f"run.gradient_checkpointing: auto finds no setting that fits {gigabytes} GB (this GPU's memory less "
                f"{MARGIN:.0%}): {task} would take {least / 1e9:.1f} GB at least. `fewstep plan` says what to change"
            )
    for task, one in taken.items():
        cut = f" in {one['parts']} parts" if one["parts"] > 1 else ""
        reporter.say(
            f"{task}: the backward pass computes {WORDS[one['recomputation']]} again, batches run{cut or ' whole'}: "
            f"{one['bytes'] / 1e9:.1f} of {gigabytes} GB (this GPU's less {MARGIN:.0%}), "
            f"{one['flops'] / 1e15:.3g} PFLOP an iteration (run.gradient_checkpointing: auto)"
        )
    recomputed = {task: one["recomputation"] for task, one in taken.items()}
    return _with(recipe, recomputed, {task: one["parts"] for task, one in taken.items()})


def _unknown(recipe: Recipe, why: str, reporter: Reporter) -> Recipe:
    reporter.say(
        f"the backward pass computes {WORDS[UNKNOWN]} again, since {why} (run.gradient_checkpointing: auto). "
        "Where memory allows it, off takes less time"
    )
    return _with(recipe, dict.fromkeys(TASKS, UNKNOWN), recipe.run.gradient_accumulation)


def _with(recipe: Recipe, recomputed: Any, parts: Any) -> Recipe:
    changes = {"gradient_checkpointing": recomputed, "gradient_accumulation": parts}
    return recipe.model_copy(update={"run": recipe.run.model_copy(update=changes)})


def _held(folder: Path) -> Recipe | None:
    """The recipe that the run in a folder began with, if it is settled. One that cannot be read is refused where the
    run is opened."""
    file = folder / "recipe.yaml"
    if file.is_file():
        with suppress(FewstepError):
            held = load_recipe(file)
            return None if held.run.gradient_checkpointing == AUTO else held
    return None
