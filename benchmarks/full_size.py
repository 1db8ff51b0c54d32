"""Shipped recipes at their model's full size on this GPU, random weights: peak memory and work against `fewstep plan`,
seconds by part, rate, and the hours of the run that follow.

For each task two iterations at the recipe's own critic ratio, the first and the last student step: work is linear in
the step, so their mean is an iteration's. One of a single sample before them warms up (compiled blocks: one of them
all). No weights, no text encoder and no network needed; specialised teachers are random too, and `student.init_from`,
which changes no size, is left out. Values are random, for products of zeros are faster. Memory is what torch's
allocator says was alive at once.

python benchmarks/full_size.py [RECIPE ...] [--side 1024] [--text 256] [--batch N] [--set KEY=VALUE ...]
python benchmarks/full_size.py pocket --side 64 --text 16 --batch 2      the same on a CPU: that it runs
"""

import argparse
import gc
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context

import torch
from torch import nn

from fewstep.backbones.conditioning import Conditioning
from fewstep.backbones.conditioning_estimate import estimate_conditioning
from fewstep.backbones.fake_model import ModelSize, size_of_model
from fewstep.backbones.pipeline_backbone import PipelineBackbone
from fewstep.data.plan import TasksPlan
from fewstep.encode.batch import Batch
from fewstep.flow.rng import NamedRNG
from fewstep.lora.factors import Factors
from fewstep.roles.block_swap import placement_of_run
from fewstep.roles.build import TeacherLoaders
from fewstep.roles.compilation import compile_blocks
from fewstep.run.budget.auto_memory import settle_auto
from fewstep.run.budget.batch_shape import BatchShape
from fewstep.run.budget.forecast import default_lora_shapes, forecast
from fewstep.run.budget.gpu_memory import GPUMemory
from fewstep.run.budget.rehearsal import rehearsal_roles
from fewstep.run.budget.task_forecast import TaskForecast
from fewstep.run.budget.zero_batch import zero_batch
from fewstep.run.card_memory import card_memory
from fewstep.run.levels import levels_for
from fewstep.run.precision import settle_precision
from fewstep.run.recipe import Recipe, load_recipe, with_run_keys
from fewstep.runtime.device import PRECISIONS, resolve_device
from fewstep.runtime.parallel import SINGLE_RANK
from fewstep.runtime.task import Task
from fewstep.train.build import build_dmd_step
from fewstep.train.dmd_step import DMDStep
from fewstep.train.monitor import to_host
from fewstep.train.plan import AUTO_OF_MEMORY
from fewstep.train.settings import DMDSettings

RNG = NamedRNG(0)


@dataclass(frozen=True)
class Measured:
    """bytes: the most at once. seconds: of the first and of the last student step."""

    bytes: int
    seconds: tuple[float, float]

    @property
    def mean(self) -> float:
        return sum(self.seconds) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=["qwen-image-2.1"])
    parser.add_argument("--side", type=int, default=1024, help="pixels")
    parser.add_argument("--text", type=int, default=256, help="positions")
    parser.add_argument("--batch", type=int, help="samples; otherwise as the recipe says")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    options = parser.parse_args()
    own = [] if options.batch is None else [f"run.batch={options.batch}"]
    asked = [settle_precision(load_recipe(name, [*options.overrides, *own])) for name in options.recipes]
    recipes = [levels_for(recipe, size_of_model(recipe.model))[0] for recipe in asked]
    device = resolve_device(recipes[0].run.device, recipes[0].run.precision)
    recipes = [settled(recipe, device, told_of(recipe, options.side, options.text)) for recipe in recipes]
    peak_rate = matmul_rate(device, 8192 if device.type == "cuda" else 512)
    print(f"{name_of(device)}, torch {torch.__version__}: bf16 matmul {peak_rate / 1e12:.3g} TFLOP/s", flush=True)
    # What is told is counted on the CPU meanwhile, and printed beside what is measured.
    with ProcessPoolExecutor(4, get_context("spawn")) as pool:
        for recipe in recipes:
            foretold = {
                told: pool.submit(forecast, recipe, told, recipe.run.batch, device.type == "cuda")
                for told in told_of(recipe, options.side, options.text)
            }
            print(f"{recipe.name}: batch {recipe.run.batch}, critic {recipe.critic.updates} : 1", *options.overrides)
            with built(recipe, device) as step:
                found = {told: measured(step, told, recipe, device) for told in foretold}
            for told, one in found.items():
                if one is not None:
                    compare(one, told, foretold[told].result(), peak_rate)
            show_hours(recipe, {told.task: one.mean for told, one in found.items() if one is not None})


def settled(recipe: Recipe, device: torch.device, shapes: list[BatchShape]) -> Recipe:
    """The recipe with settings for this GPU in the place of `run.gradient_checkpointing: auto` and
    `run.blocks_to_swap: auto`; on a CPU with `full` and 0. Choosing takes minutes: `--set` names what is known already.
    """
    asked = recipe.run.auto_of_memory
    if not asked:
        return recipe
    left = card_memory(device)
    if left is None:
        return with_run_keys(recipe, {key: AUTO_OF_MEMORY[key] for key in asked})
    card, size = GPUMemory(left.gigabytes), size_of_model(recipe.model)
    recipe, chosen = settle_auto(recipe, size, shapes, SINGLE_RANK, card, forecast, every=False)
    for one in chosen:
        taken = "taken" if one.taken else "" if one.fits else "does not fit"
        how = f"{one.recomputation} in {one.parts} parts, {one.swapped} blocks in host memory"
        print(f"{one.task}: {how}, {one.bytes / 1e9:.1f} GB {taken}", flush=True)
    return recipe


def told_of(recipe: Recipe, side: int, text: int) -> list[BatchShape]:
    """Text to image, and an edit of one reference of the target's size, as far as the recipe has them."""
    grid, width = (side // 16,) * 2, estimate_conditioning(recipe.model).text_width
    tasks: tuple[Task, ...] = ("t2i", "edit")
    return [BatchShape(t, grid, text, width, (grid,) if t == "edit" else ()) for t in tasks if getattr(recipe.tasks, t)]


@contextmanager
def built(recipe: Recipe, device: torch.device) -> Iterator[DMDStep]:
    """The recipe's roles over random weights; given back afterwards."""
    torch.manual_seed(0)
    size, dtype = size_of_model(recipe.model), PRECISIONS[recipe.run.precision]
    backbone = size.family.random(size.config, {"shift": 1.0}, dtype, device)
    backbone.default_guidance, _ = size.family.default_sampling(size.index)
    placement = placement_of_run(recipe.run.swapped_blocks, "off", SINGLE_RANK, device, recipe.run.precision)
    roles = rehearsal_roles(backbone, recipe, random_loaders(recipe, size, backbone), placement)
    for network in roles.networks if recipe.run.compile else ():
        compile_blocks(network.transformer)
    settings = DMDSettings(recipe.student, recipe.critic, recipe.objective, recipe.teachers.watch)
    yield build_dmd_step(roles, settings, RNG)
    del backbone, roles
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def random_loaders(recipe: Recipe, size: ModelSize, backbone: PipelineBackbone) -> TeacherLoaders:
    """Specialised teachers of the right sizes: LoRAs of the student's rank, whole models of the base's class."""
    shapes, rank = default_lora_shapes(backbone), recipe.student.adapter.rank

    def adapter(source: str) -> dict[str, Factors]:
        return {
            name: Factors(0.01 * torch.randn(rank, columns), 0.01 * torch.randn(rows, rank), 1.0)
            for name, (rows, columns) in shapes.items()
        }

    def model(source: str, dtype: torch.dtype, where: torch.device) -> nn.Module:
        return size.family.random(size.config, {"shift": 1.0}, dtype, where).transformer

    return TeacherLoaders(adapter, model)


def measured(step: DMDStep, told: BatchShape, recipe: Recipe, device: torch.device) -> Measured | None:
    """None: more than the device holds."""
    channels = step.roles.student.backbone.latent_channels
    negatives = recipe.negatives((told.task,), step.roles.student.backbone.default_guidance)[told.task]  # type: ignore[attr-defined]
    warming = recipe.run.batch if recipe.run.compile else 1  # a second size is compiled anew
    batches = [
        filled(zero_batch(told, samples, channels, negatives, PRECISIONS[recipe.run.precision]), device)
        for samples in (warming, recipe.run.batch)
    ]
    first, last = recipe.objective.first_matched_step(told.task), recipe.student.steps - 1
    ramped = recipe.run.iterations - 1  # teachers enter over the run
    try:
        timed(step, batches[0], first, ramped, device)
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        step.timer.seconds()
        seconds = tuple(timed(step, batches[1], k, ramped, device, recipe.run.parts(told.task)) for k in (last, first))
    except torch.OutOfMemoryError:
        print(f"  {told.task}: more than the device holds", flush=True)
        return None
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    parts = {name: value / 2 for name, value in step.timer.seconds().items()}
    found = Measured(peak, (seconds[1], seconds[0]))
    print(
        f"  {told.task}: {found.mean:.2f} s an iteration ({found.seconds[0]:.2f} and {found.seconds[1]:.2f}: "
        f"{', '.join(f'{name} {value:.2f}' for name, value in parts.items())}), peak {peak / 1e9:.2f} GB",
        flush=True,
    )
    return found


def filled(batch: Batch, device: torch.device) -> Batch:
    """On the device, with random numbers in place of zeros."""

    def random(cond: Conditioning) -> Conditioning:
        references = None if cond.references_BRD is None else torch.randn_like(cond.references_BRD)
        return replace(cond, text_BLC=torch.randn_like(cond.text_BLC), references_BRD=references).to(device)

    return replace(batch, cond=random(batch.cond), negatives={n: random(c) for n, c in batch.negatives.items()})


def timed(step: DMDStep, batch: Batch, k: int, i: int, device: torch.device, parts: int = 1) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    to_host(step.iterate(i, k, *batch.micro_batches(parts)))  # waits for the device
    return time.perf_counter() - begun


def compare(found: Measured, told: BatchShape, foretold: TaskForecast, peak_rate: float) -> None:
    rate, peak = foretold.flops / found.mean, foretold.peak.bytes
    off = f"{100 * (peak / found.bytes - 1):+.1f} %" if found.bytes else "benchmarks/memory.py measures it on a CPU"
    print(
        f"  {told.task} as told: {foretold.flops / 1e12:.4g} TFLOP, so {rate / 1e12:.3g} TFLOP/s, "
        f"{100 * rate / peak_rate:.0f} % of the matmul; peak {peak / 1e9:.2f} GB, {off}",
        flush=True,
    )


def show_hours(recipe: Recipe, means: Mapping[Task, float]) -> None:
    assert isinstance(recipe.tasks, TasksPlan)
    shares = {task: getattr(recipe.tasks, task) for task in means}
    if sum(shares.values()) == recipe.tasks.t2i + recipe.tasks.edit:
        mean = sum(shares[task] * seconds for task, seconds in means.items()) / sum(shares.values())
        print(f"  {recipe.run.iterations} iterations: {recipe.run.iterations * mean / 3600:.2f} h", flush=True)


def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def matmul_rate(device: torch.device, side: int) -> float:
    """FLOP/s of a plain bf16 matmul, the best of five."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        if device.type == "cuda":
            torch.cuda.synchronize()
        begun = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begun)
    return 2 * side**3 / best


if __name__ == "__main__":
    main()
