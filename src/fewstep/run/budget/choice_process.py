"""A process of its own that chooses memory settings for a run: the run's process then never holds fake models, and
imagined ranks do not meet real ones. Request and answer are JSON files.

python -m fewstep.run.budget.choice_process REQUEST ANSWER
"""

import json
import sys
from pathlib import Path
from typing import Any

from fewstep.roles.teacher_plan import BASE
from fewstep.run.budget.budget import gpu_budget
from fewstep.run.budget.gpu_memory import GPUMemory
from fewstep.run.recipe import parse_recipe
from fewstep.runtime.errors import FewstepError


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The settings that were tried, the number of the base's blocks in host memory, and their bytes; or why the
    iteration could not be rehearsed.

    Args:
        request: recipe, place (of cases), gpus, per_machine, gigabytes.
    """
    recipe = parse_recipe(request["recipe"], "recipe")
    card = GPUMemory(request["gigabytes"])
    try:
        budget = gpu_budget(
            recipe, Path(request["place"]), request["gpus"], True, request["per_machine"], card, every=False
        )
    except FewstepError as error:
        return {"refused": str(error)}
    return {
        "settings": [vars(setting) for setting in budget.settings],
        "blocks_to_swap": budget.recipe.run.swapped_blocks,
        "host_bytes": sum(budget.host.swapped.get(BASE, ())),
    }


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(answer(json.loads(Path(sys.argv[1]).read_text()))))
