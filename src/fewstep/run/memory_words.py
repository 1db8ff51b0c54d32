"""What a run says of the settings that it chose for its GPU's memory, and of those that do not fit.

An answer is that of `budget/choice_process.py`: values of `MemorySetting`, and of the blocks in host memory.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fewstep.run.card_memory import CardMemory

WORDS = {"off": "nothing", "selective": "all but large products and attention", "full": "whole blocks"}


def blocks_words(answer: Mapping[str, Any], card: CardMemory) -> str:
    """How many blocks wait in host memory, and why."""
    number = answer["blocks_to_swap"]
    if not number:
        return "all blocks of the base stay on this GPU, since they fit (run.blocks_to_swap: auto)"
    fullest = max((one for one in answer["settings"] if not one["swapped"]), key=lambda one: one["bytes"])
    return (
        f"{number} blocks of the base wait in host memory, {answer['host_bytes'] / 1e9:.1f} GB: with all on this GPU "
        f"{fullest['task']} would take {fullest['bytes'] / 1e9:.1f} of {card.gigabytes:g} GB (run.blocks_to_swap: auto)"
    )


def choice_words(task: str, one: Mapping[str, Any], card: CardMemory, chosen: bool) -> str:
    """What a task takes of a card. chosen: whether what is computed again was chosen, too."""
    takes = f"{one['bytes'] / 1e9:.1f} of {card}"
    if not chosen:
        return f"{task}: {takes} by plan"
    cut = f"in {one['parts']} parts" if one["parts"] > 1 else "whole"
    return (
        f"{task}: the backward pass computes {WORDS[one['recomputation']]} again, batches run {cut}: {takes}, "
        f"{one['flops'] / 1e15:.3g} PFLOP an iteration (run.gradient_checkpointing: auto)"
    )


def nothing_fits(answer: Mapping[str, Any], lacking: Sequence[str], keys: Sequence[str], card: CardMemory) -> str:
    """What is said where nothing fits: of the task that lacks most.

    Args:
        lacking: the tasks that no setting fits.
        keys: of `run`, whose `auto` was to be chosen.
    """
    number, least = answer["blocks_to_swap"], dict[str, float]()
    for task in lacking:
        tried = [one["bytes"] for one in answer["settings"] if (one["task"], one["swapped"]) == (task, number)]
        least[task] = min(tried) / 1e9
    task = max(least, key=least.__getitem__)
    if "blocks_to_swap" in keys:
        return (
            f"run.blocks_to_swap: auto finds no number that fits {card}: with {number} blocks in host memory, the most "
            f"that there can be, {task} would take {least[task]:.1f} GB at least, "
            f"{least[task] - card.gigabytes:.1f} GB too much. `fewstep plan` says what to change"
        )
    return (
        f"run.gradient_checkpointing: auto finds no setting that fits {card}: {task} would take {least[task]:.1f} GB "
        "at least. `fewstep plan` says what to change"
    )
