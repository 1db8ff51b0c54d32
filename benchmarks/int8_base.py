"""What a base in int8 changes: the velocity's error, bytes, and the time of a forward with backward.

    python benchmarks/int8_base.py [--model pocket] [--run RUN]

Errors are relative, in the norm, against the same weights in fp32; beside them is the error of bf16. With --run, a
pocket run's student draws over the base in int8 and over the whole one, from the same noise.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from fewstep.backbones.conditioning import Conditioning, stack
from fewstep.backbones.families import load_backbone
from fewstep.flow.rng import NamedRNG
from fewstep.roles.adapters import Adapters
from fewstep.roles.plan import AdapterPlan
from fewstep.run.recipe import load_recipe
from fewstep.runtime.base_weight_kinds import BaseWeights
from fewstep.runtime.device import autocast
from fewstep.sample.sampler import sample

TIMES = (0.1, 0.5, 0.9, 1.0)
PROMPTS = ["a red house by a lake", "a man with a hat", "a sign that says AB"]


def velocity(backbone: Any, cond: Conditioning, t: float, precision: str = "fp32") -> Tensor:
    z_BND = NamedRNG(0).normal((len(cond), *backbone.noise_shape(cond.layout)), "z")
    with autocast(z_BND.device, precision):
        return backbone.velocity(backbone.transformer, z_BND, torch.full((len(cond),), t), cond).float()


def off(ours: Tensor, exact: Tensor) -> float:
    return float((ours - exact).norm() / exact.norm())


@torch.no_grad()
def errors(model: str, cond: Conditioning) -> None:
    exact = load_backbone(model, dtype=torch.float32)
    wanted = [velocity(exact, cond, t) for t in TIMES]
    print("relative error of the velocity at t =", *TIMES)
    for words, dtype, int8 in (
        ("int8, fp32 otherwise", torch.float32, True),
        ("bf16", torch.bfloat16, False),
        ("int8, bf16 otherwise", torch.bfloat16, True),
    ):
        other: Any = load_backbone(
            model, dtype=dtype, parts="transformer", base_weights="int8" if int8 else "precision"
        )
        precision = "bf16" if dtype == torch.bfloat16 else "fp32"
        found = [off(velocity(other, cond, t, precision), v) for t, v in zip(TIMES, wanted, strict=True)]
        held = sum(t.nbytes for t in (*other.transformer.parameters(), *other.transformer.buffers()))
        print(f"{words:22}", *(f"{100 * error:6.2f} %" for error in found), f"   {held / 1e6:8.2f} MB")


def times(model: str, cond: Conditioning, rounds: int = 15) -> None:
    """A forward and backward of a LoRA of rank 16, in turn over both bases."""
    sides: dict[str, Any] = {}
    names: tuple[BaseWeights, ...] = ("precision", "int8")
    for name in names:
        backbone: Any = load_backbone(model, dtype=torch.float32, parts="transformer", base_weights=name)
        adapters = Adapters(backbone.transformer)
        adapters.add("student", AdapterPlan(rank=16, alpha=16.0), backbone.lora_targets, NamedRNG(0))
        sides[name] = backbone, adapters
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, (backbone, adapters) in sides.items():
            begun = time.process_time()
            with adapters.active("student"):
                velocity(backbone, cond, 0.5).square().mean().backward()
            taken[name].append(time.process_time() - begun)
    whole, small = taken["precision"], taken["int8"]
    print(
        f"forward and backward, int8 to fp32: {min(small) / min(whole):.3f} (min), "
        f"{statistics.median(small) / statistics.median(whole):.3f} (median of {rounds})"
    )


@torch.no_grad()
def student(run: Path, cond: Conditioning) -> None:
    """The last checkpoint's average, over both bases."""
    recipe = load_recipe(run / "recipe.yaml")
    state = load_file(max((run / "checkpoints").glob("iteration-*")) / "student_average.safetensors")
    drawn = {}
    for int8 in (False, True):
        backbone: Any = load_backbone(
            recipe.model, dtype=torch.float32, parts="transformer", base_weights="int8" if int8 else "precision"
        )
        adapters = Adapters(backbone.transformer)
        adapters.add("student", recipe.student.adapter, backbone.lora_targets, NamedRNG(0))
        for name, parameter in adapters.parameters("student").items():
            parameter.copy_(state[name])
        noise_BND = NamedRNG(1).normal((len(cond), *backbone.noise_shape(cond.layout)), "noise")
        with adapters.active("student"):
            drawn[int8] = sample(backbone, backbone.transformer, cond, noise_BND, recipe.student.grid)
    apart = 100 * off(drawn[True], drawn[False])
    print(f"latents of {run}'s student over int8, off those over the whole base: {apart:.2f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--run", type=Path)
    options = parser.parse_args()
    encoder = load_backbone(options.model, dtype=torch.float32, parts="encoder")
    side = 2 * encoder.size_multiple
    cond = stack(encoder.encode(PROMPTS, None, (side, side)))
    errors(options.model, cond)
    times(options.model, cond)
    if options.run:
        student(options.run, cond)


if __name__ == "__main__":
    main()
