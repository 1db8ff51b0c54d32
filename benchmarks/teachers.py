"""What a specialised teacher costs: whole iterations of three plans, interleaved in one process, on one model.

  base-only        the base alone
  weight 0         a LoRA teacher that has no weight at the drawn student step
  with weight      the same teacher where it has weight; guided: with guidance on both teachers

Whole iterations without teachers' forwards are the same work, so the ratios show what a plan adds. Also: forwards of
the teachers per iteration, and numbers of parameters with and without the teacher. On a CPU this process's own seconds
are counted, which other processes disturb least; on a GPU wall time.

python benchmarks/teachers.py [MODEL] [--batch 16] [--repeats 20] [--precision fp32]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from fewstep.backbones.conditioning import stack
from fewstep.backbones.families import load_backbone
from fewstep.encode.batch import Batch
from fewstep.flow.rng import NamedRNG
from fewstep.lora.keys import lora_key
from fewstep.objective.plan import ObjectivePlan
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.execution import Execution
from fewstep.roles.plan import AdapterPlan, CriticPlan, StudentPlan, TeachersSpec
from fewstep.runtime.device import resolve_device
from fewstep.train.build import build_dmd_step
from fewstep.train.dmd_step import DMDStep
from fewstep.train.settings import DMDSettings

RANK = 16
PROMPT, NEGATIVE = 'A sign shaped as a board painted red with white letters reading "HEY" before a teal wall.', ""
RNG = NamedRNG(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="pocket")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--precision", default="fp32", choices=["bf16", "fp32"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        adapter = Path(folder) / "specialised.safetensors"
        random_lora(options.model, adapter)
        steps = {name: made(name, adapter, options) for name in ("base-only", "step-wise", "guided")}
        batch = batch_of(options)
        print(f"{options.model}, batch {options.batch}, {options.precision}, {torch.get_num_threads()} threads")
        print(f"parameters: {sizes(steps['base-only']):,}, with the teacher {sizes(steps['step-wise']):,}")
        runs = {
            "base-only": lambda i: steps["base-only"].iterate(i, 0, batch),
            "weight 0": lambda i: steps["step-wise"].iterate(i, 0, batch),
            "with weight": lambda i: steps["step-wise"].iterate(i, 3, batch),
            "guided, weight 0": lambda i: steps["guided"].iterate(i, 0, batch),
            "guided, with weight": lambda i: steps["guided"].iterate(i, 3, batch),
        }
        report(interleaved(runs, steps, options.repeats))


def random_lora(model: str, to: Path) -> None:
    """An update of every module that adapters attach to."""
    backbone = load_backbone(model, dtype=torch.float32, parts="transformer")
    tensors = {}
    for name, module in backbone.transformer.named_modules():
        if isinstance(module, torch.nn.Linear) and name.endswith(backbone.lora_targets):
            rows, columns = module.weight.shape
            tensors[lora_key(name, "A")] = 0.02 * RNG.normal((RANK, columns), f"{name} A")
            tensors[lora_key(name, "B")] = 0.02 * RNG.normal((rows, RANK), f"{name} B")
    save_file(tensors, to)


def made(plan: str, adapter: Path, options: argparse.Namespace) -> DMDStep:
    guidance = {"t2i": {"scale": 4.0, "negative": NEGATIVE}} if plan == "guided" else None
    named = {} if plan == "base-only" else {"specialised": {"adapter": str(adapter), "guidance": guidance}}
    spec = TeachersSpec.model_validate(
        {"preset": "step-wise" if named else "base-only", "ramp": 0, "named": named, "base": {"guidance": guidance}}
    )
    small = AdapterPlan(rank=RANK, alpha=RANK)
    student, critic = StudentPlan(adapter=small), CriticPlan(adapter=small, updates=1)
    device = resolve_device("auto", options.precision)
    backbone = load_backbone(options.model, dtype=torch.float32, device=device, parts="transformer")
    roles = build_roles(backbone, RolesSpec(student, critic, spec, 1000), RNG, Execution(precision=options.precision))
    return build_dmd_step(roles, DMDSettings(student, critic, ObjectivePlan()), RNG)


def batch_of(options: argparse.Namespace) -> Batch:
    backbone = load_backbone(options.model, dtype=torch.float32)
    size, n = (options.side, options.side), options.batch
    device = resolve_device("auto", options.precision)
    cond, empty = (stack(backbone.encode([text], None, size) * n).to(device) for text in (PROMPT, NEGATIVE))
    return Batch(0, "t2i", cond, {NEGATIVE: empty}, tuple(range(n)), ("sign",) * n, ("case",) * n)


def sizes(step: DMDStep) -> int:
    return sum(p.numel() for p in step.roles.student.transformer.parameters())


def interleaved(
    runs: dict[str, Callable[[int], object]], steps: dict[str, DMDStep], repeats: int
) -> dict[str, tuple[list[float], int]]:
    """Seconds of each run in every round, and the teachers' forwards of one."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    forwards: dict[str, int] = {}
    for i in range(repeats + 1):
        order = list(runs) if i % 2 else list(reversed(runs))
        for name in order:
            before = sum(sum(m.roles.teachers.forwards.values()) for m in steps.values())
            start = seconds()
            runs[name](i)
            if i:  # the first round warms up
                times[name].append(seconds() - start)
            forwards[name] = sum(sum(m.roles.teachers.forwards.values()) for m in steps.values()) - before
    return {name: (times[name], forwards[name]) for name in runs}


def seconds() -> float:
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def report(found: dict[str, tuple[list[float], int]]) -> None:
    plain = found["base-only"][0]
    for name, (seconds, forwards) in found.items():
        paired = statistics.median(s / p for s, p in zip(seconds, plain, strict=True))
        print(
            f"{name:20} {1e3 * statistics.median(seconds):7.0f} ms (least {1e3 * min(seconds):.0f}), "
            f"{forwards} forwards of teachers; to base-only: minima {min(seconds) / min(plain):.3f}, "
            f"median of pairs {paired:.3f}"
        )


if __name__ == "__main__":
    main()
