"""Peak memory as `fewstep plan` tells it, against an iteration that is run: random weights of the model's real size.

On a GPU the peak is torch.cuda.max_memory_allocated; on a CPU, what the allocator reports to torch's profiler.

With --ranks N the batch is one rank's, and every rank is a process of its own on this CPU (gloo). Each takes the least
of three measurements, and the fullest rank counts.

python benchmarks/memory.py [RECIPE] [--side 1024] [--batch 1] [--ranks N] [--set KEY=VALUE ...]
"""

import argparse
import gc
import os
import socket
from collections.abc import Callable
from functools import partial

import torch
import torch.multiprocessing as mp

from fewstep.backbones.conditioning_estimate import estimate_conditioning
from fewstep.backbones.fake_model import size_of_model
from fewstep.roles.build import FILE_LOADERS
from fewstep.run.budget.batch_shape import BatchShape
from fewstep.run.budget.forecast import forecast
from fewstep.run.budget.rehearsal import rehearse
from fewstep.run.budget.zero_batch import zero_batch
from fewstep.run.levels import levels_for
from fewstep.run.precision import settle_precision
from fewstep.run.recipe import Recipe, load_recipe
from fewstep.runtime.device import PRECISIONS, resolve_device
from fewstep.runtime.parallel import (
    SINGLE_RANK,
    Ranks,
    process_group,
)

TEXT = 256  # positions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", default="pocket")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    options = parser.parse_args()
    for how in ("off", "selective", "full"):
        keys = [f"run.gradient_checkpointing={how}", f"run.batch={options.batch * options.ranks}"]
        asked = settle_precision(load_recipe(options.recipe, [*options.overrides, *keys]))
        size = size_of_model(asked.model)
        recipe, _ = levels_for(asked, size)
        device = resolve_device(recipe.run.device, recipe.run.precision)
        grid, width = (options.side // 16,) * 2, estimate_conditioning(recipe.model).text_width
        for task, references in (("t2i", ()), ("edit", (grid,))):
            told = BatchShape(task, grid, TEXT, width, references)  # type: ignore[arg-type]
            ranks = Ranks(0, options.ranks, options.ranks)
            foretold = forecast(recipe, told, options.batch, device.type == "cuda", size, ranks=ranks).peak.bytes
            job = partial(run, recipe, told, options.batch, device)
            measured = most_bytes(job, device) if options.ranks == 1 else most_of_ranks(job, options.ranks)
            print(
                f"{recipe.model} {task} {how:9} told {foretold / 1e9:8.4f} GB, measured {measured / 1e9:8.4f} GB, "
                f"{100 * (foretold / measured - 1):+.2f} %"
            )


def run(recipe: Recipe, told: BatchShape, samples: int, device: torch.device, ranks: Ranks = SINGLE_RANK) -> None:
    """One iteration, on random weights."""
    size, dtype = size_of_model(recipe.model), PRECISIONS[recipe.run.precision]
    with torch.device(device):
        backbone = size.family.random(size.config, dtype=dtype, device=device)
        negatives = recipe.negatives((told.task,), backbone.default_guidance)[told.task]
        batch = zero_batch(told, samples, backbone.latent_channels, negatives, dtype)
    if not ranks.first:
        backbone = backbone.meta_copy()
    rehearse(backbone, recipe, batch, FILE_LOADERS, ranks=ranks)


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


def most_of_ranks(job: Callable[..., None], ranks: int) -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = mp.get_context("spawn").SimpleQueue()
    mp.start_processes(_rank, (ranks, port, job, told), nprocs=ranks, start_method="spawn")
    return max(told.get() for _ in range(ranks))


def _rank(rank: int, world: int, port: int, job: Callable[..., None], told: "mp.SimpleQueue[int]") -> None:
    own = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in own.items()}
    torch.set_num_threads(1)
    with process_group("cpu") as ranks:
        # The least of some: when gloo's threads let a buffer go is theirs to decide.
        told.put(min(most_bytes(partial(job, ranks=ranks), torch.device("cpu")) for _ in range(3)))


if __name__ == "__main__":
    main()
