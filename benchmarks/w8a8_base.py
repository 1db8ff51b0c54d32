"""What products of the frozen base in 8 bits change: the velocity's error, that of the student's gradient, and the time
of a layer's forward and backward by rows.

    python benchmarks/w8a8_base.py [--model pocket] [--width 4096] [--rows 256 1024] [--device cuda] [--precision bf16]

Errors are relative, in the norm, against the same weights in fp32; beside them are those of bf16 and of int8 for memory
alone. Layers with one row for each sample (modulations) are converted, as in a run. The gradient is that of a LoRA of
rank 16 for a drawn gradient of the velocity, with its cosine. Times are taken in turn over all sides, from the same
input: `LEAST_ROWS` (`fewstep/backbones/rounded_linear.py`) should be where 8 bits begin to win.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewstep.backbones.base_weights import has_units
from fewstep.backbones.conditioning import Conditioning, stack
from fewstep.backbones.families import load_backbone
from fewstep.backbones.fp8 import FP8
from fewstep.backbones.int8 import INT8
from fewstep.backbones.rounded_linear import NEVER, NumberFormat, RoundedLinear, round_blocks
from fewstep.flow.rng import NamedRNG
from fewstep.roles.adapters import Adapters
from fewstep.roles.plan import AdapterPlan
from fewstep.runtime.device import PRECISIONS, autocast, resolve_device

TIMES = (0.1, 0.5, 0.9, 1.0)
PROMPTS = ["a red house by a lake", "a man with a hat", "a sign that says AB", "snow on a roof at night"]


@dataclass(frozen=True)
class Side:
    """One way of holding a base. eight_bit: whether products are made in 8 bits."""

    name: str
    numbers: NumberFormat | None = None
    eight_bit: bool = False


SIDES = [
    Side("as precision says"),
    Side("int8", INT8),
    Side("int8-w8a8", INT8, eight_bit=True),
    Side("fp8, converted", FP8),
    Side("fp8-w8a8", FP8, eight_bit=True),
]


def velocities_and_gradients(model: str, cond: Conditioning, side: Side, precision: str) -> tuple[list[Tensor], ...]:
    """At each of TIMES: the velocity, and the gradient of all adapter weights in one."""
    backbone: Any = load_backbone(model, dtype=PRECISIONS[precision], parts="transformer")
    if side.numbers is not None:
        round_blocks(backbone.transformer, side.numbers, len(cond) + 1 if side.eight_bit else NEVER)
    adapters = Adapters(backbone.transformer)
    adapters.add("student", AdapterPlan(rank=16, alpha=16.0), backbone.lora_targets, NamedRNG(0))
    learnt = adapters.parameters("student")
    with torch.no_grad():
        for name, weight in learnt.items():
            if "lora_B" in name:  # away from zero, where A has no gradient
                weight.copy_(0.01 * NamedRNG(1).normal(weight.shape, name))
    z_BND = NamedRNG(0).normal((len(cond), *backbone.noise_shape(cond.layout)), "z")
    g_BND = NamedRNG(0).normal(z_BND.shape, "gradient")
    found: tuple[list[Tensor], ...] = [], []
    for t in TIMES:
        with adapters.active("student"), autocast(z_BND.device, precision):
            v_BND = backbone.velocity(backbone.transformer, z_BND, torch.full((len(cond),), t), cond).float()
            gradients = torch.autograd.grad((v_BND * g_BND).mean(), list(learnt.values()))
        found[0].append(v_BND.detach())
        found[1].append(torch.cat([gradient.flatten() for gradient in gradients]))
    return found


def errors(model: str, cond: Conditioning) -> None:
    exact = velocities_and_gradients(model, cond, SIDES[0], "fp32")
    print("at t =", *TIMES, ": error of the velocity | error of the student's gradient | 1 - its cosine")
    for precision in ("fp32", "bf16"):
        for side in SIDES[precision == "fp32" :]:
            found = velocities_and_gradients(model, cond, side, precision)
            v, g = ([100 * off(*pair) for pair in zip(*both, strict=True)] for both in zip(found, exact, strict=True))
            turned = [1 - float(functional.cosine_similarity(*p, dim=0)) for p in zip(found[1], exact[1], strict=True)]
            columns = [" ".join(f"{each:6.2f} %" for each in v), " ".join(f"{each:6.2f} %" for each in g)]
            print(f"{side.name:18} {precision:5}", *columns, " ".join(f"{each:.5f}" for each in turned), sep=" | ")


def off(ours: Tensor, exact: Tensor) -> float:
    return float((ours - exact).norm() / exact.norm())


def times(width: int, numbers_of_rows: list[int], device: torch.device, precision: str, rounds: int = 7) -> None:
    """Of one square layer, forward and backward to its input."""
    dtype = PRECISIONS[precision]
    linear = nn.Linear(width, width, device=device, dtype=dtype).requires_grad_(False)
    fp8_too = device.type == "cpu" or has_units(torch.cuda.get_device_capability(device), "fp8-w8a8")
    sides: dict[str, Callable[[Tensor], Tensor]] = {precision: linear}
    for side in SIDES[1:]:
        if side.numbers is not None and (side.numbers is not FP8 or fp8_too):
            sides[side.name] = RoundedLinear(linear, side.numbers, 1 if side.eight_bit else NEVER)
    print(
        f"\n{width} x {width} on {device}: ms forward | forward and backward, medians of {rounds}, and to {precision}"
    )
    for rows in numbers_of_rows:
        x = torch.randn(rows, width, device=device, dtype=dtype, requires_grad=True)
        g = torch.randn_like(x)
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for _ in range(rounds + 1):
            for name, layer in sides.items():
                taken[name].append((_seconds(layer, x, None, device), _seconds(layer, x, g, device)))
        ms = {
            name: [1e3 * statistics.median(each) for each in zip(*pairs[1:], strict=True)]
            for name, pairs in taken.items()
        }
        for name, (forward, both) in ms.items():
            to = f"{forward / ms[precision][0]:.2f} | {both / ms[precision][1]:.2f}"
            print(f"{rows:7} rows  {name:16} {forward:8.3f} | {both:8.3f}   {to}")


def _seconds(layer: Callable[[Tensor], Tensor], x: Tensor, g: Tensor | None, device: torch.device) -> float:
    """Of the device on a GPU; of the processor elsewhere, whatever runs beside."""
    if device.type == "cuda":
        begun, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begun.record()
        _pass(layer, x, g)
        ended.record()
        ended.synchronize()
        return float(begun.elapsed_time(ended)) / 1e3
    before = time.process_time()
    _pass(layer, x, g)
    return time.process_time() - before


def _pass(layer: Callable[[Tensor], Tensor], x: Tensor, g: Tensor | None) -> None:
    if g is None:
        with torch.no_grad():
            layer(x)
    else:
        torch.autograd.grad(layer(x), x, g)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--width", type=int, help="of the layer; 4096 on a GPU and 512 on a CPU if not given")
    parser.add_argument("--rows", type=int, nargs="+", default=[64, 256, 512, 1024, 2048, 4096])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=list(PRECISIONS), default="bf16", help="of the layer that is timed")
    options = parser.parse_args()
    device = resolve_device(options.device)
    encoder = load_backbone(options.model, dtype=torch.float32, parts="encoder")
    side = 2 * encoder.size_multiple
    errors(options.model, stack(encoder.encode(PROMPTS, None, (side, side))))
    times(options.width or (4096 if device.type == "cuda" else 512), options.rows, device, options.precision)


if __name__ == "__main__":
    main()
