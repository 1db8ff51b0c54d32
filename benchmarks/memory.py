"""Peak memory as `fewstep plan` tells it, against an iteration that is run: random weights of the model's real size.

On a GPU the peak is torch.cuda.max_memory_allocated; on a CPU, what the allocator reports to torch's profiler.

python benchmarks/memory.py [RECIPE] [--side 1024] [--batch 1] [--set KEY=VALUE ...]
"""

import argparse
import gc
from collections.abc import Callable
from functools import partial

import torch

from fewstep.backbones.hollow import size_of_model
from fewstep.backbones.outline import outline_of
from fewstep.budget.forecast import forecast
from fewstep.budget.rehearsal import Told, rehearse
from fewstep.device import PRECISIONS, chosen_device
from fewstep.recipe import Recipe, load
from fewstep.roles.assemble import FILES

TEXT = 256  # positions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", default="pocket")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    options = parser.parse_args()
    for how in ("off", "selective", "full"):
        recipe = load(options.recipe, [*options.overrides, f"run.gradient_checkpointing={how}"])
        size = size_of_model(recipe.model)
        device = chosen_device(recipe.run.device, recipe.run.precision)
        grid, width = (options.side // 16,) * 2, outline_of(recipe.model).text_width
        for task, references in (("t2i", ()), ("edit", (grid,))):
            told = Told(task, grid, TEXT, width, references)  # type: ignore[arg-type]
            foretold = forecast(recipe, told, options.batch, device.type == "cuda", size).peak.bytes
            measured = most_bytes(partial(run, recipe, told, options.batch, device), device)
            print(
                f"{recipe.model} {task} {how:9} told {foretold / 1e9:8.4f} GB, measured {measured / 1e9:8.4f} GB, "
                f"{100 * (foretold / measured - 1):+.2f} %"
            )


def run(recipe: Recipe, told: Told, samples: int, device: torch.device) -> None:
    """One iteration, on random weights."""
    size, dtype = size_of_model(recipe.model), PRECISIONS[recipe.run.precision]
    with torch.device(device):
        backbone = size.family.random(size.config, dtype=dtype, device=device)
        negatives = recipe.negatives((told.task,), backbone.default_guidance)[told.task]
        batch = told.batch(samples, backbone.latent_channels, negatives, dtype)
    rehearse(backbone, recipe, batch, FILES)


def most_bytes(run: Callable[[], None], device: torch.device) -> int:
    gc.collect()  # what was run before is not given back meanwhile
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated()
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        run()
    most = total = 0
    for event in sorted(profile.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            total += event.nbytes()
            most = max(most, total)
    return most


if __name__ == "__main__":
    main()
