"""What `run.compile` costs and saves: whole iterations with compiled blocks and without, in turns, in one process.

Printed are: the seconds of the first iteration of each step, which compile; processor seconds of later ones, as ratios;
bytes that a student forward keeps for its backward; and how far the gradient of the same loss is from the one without,
in fp32 and in bf16. --resume instead: a compiled run that was stopped after each of its iterations is compared with the
unbroken one, bit by bit.

python benchmarks/compilation.py [MODEL] [--batch 16] [--rounds 3] [--task t2i] [--recompute selective]
    [--set KEY=VALUE ...] [--resume]
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from savings import batch_of, interleaved, made, told
from torch import Tensor

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.families import load_backbone
from fewstep.encode.batch import Batch
from fewstep.flow.rng import NamedRNG
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.compilation import compile_blocks, refuse_without_compiler
from fewstep.roles.execution import Execution
from fewstep.roles.recomputation import Recomputation
from fewstep.run.recipe import Recipe, load_recipe
from fewstep.runtime.allocator import keep_freed_memory
from fewstep.runtime.device import PRECISIONS
from fewstep.runtime.task import TASKS
from fewstep.train.build import build_dmd_step
from fewstep.train.checkpoint import load_checkpoint
from fewstep.train.dmd_step import DMDStep
from fewstep.train.settings import DMDSettings
from fewstep.train.trainer import Trainer


def kept_bytes(step: DMDStep, batch: Batch) -> int:
    """Bytes that one student forward keeps, each storage once, weights aside."""
    student, kept = step.roles.student, dict[int, int]()
    own = {p.untyped_storage().data_ptr() for p in student.transformer.parameters()}

    def count(x: Tensor) -> Tensor:
        if x.untyped_storage().data_ptr() not in own:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    z_BND = step.student.draws.noise(batch, "kept", 0)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
        held = student.velocity(z_BND, z_BND.new_full((len(z_BND),), 0.5), batch.cond)  # alive while we count
    del held
    return sum(kept.values())


def gradient(step: DMDStep, batch: Batch) -> dict[str, Tensor]:
    """Of the critic's first loss, before any update."""
    critic = step.roles.critic
    z_BND = step.student.draws.noise(batch, "gradient", 0)
    with critic.active():
        v_BND = critic.velocity(z_BND, z_BND.new_full((len(z_BND),), 0.5), batch.cond)
        (v_BND + z_BND).square().mean().backward()
    named = {name: p.grad for name, p in critic.named_parameters().items() if p.grad is not None}
    critic.transformer.zero_grad(set_to_none=True)
    return named


def difference(plain: DMDStep, fast: DMDStep, batch: Batch) -> float:
    """max |g - g compiled| / max |g|."""
    want, got = gradient(plain, batch), gradient(fast, batch)
    assert got.keys() == want.keys()
    return max(float((got[n] - g).abs().max()) for n, g in want.items()) / max(
        float(g.abs().max()) for g in want.values()
    )


def step_of(
    model: str, settings: list[str], how: Recomputation, precision: str | None = None, compile: bool = False
) -> DMDStep:
    """how: what backward passes compute again. precision: another than the recipe's, of base and forwards."""
    whose = [] if precision is None else [f"run.precision={precision}"]
    dtype = PRECISIONS[precision or "bf16"]
    backbone = load_backbone(model, dtype=dtype, parts="transformer")
    step = made(model, [*settings, *whose], transformer=backbone)
    for network in (step.roles.student, step.roles.critic):
        network.recompute_as(dict.fromkeys(TASKS, how))
    for network in step.roles.networks if compile else ():
        compile_blocks(network.transformer)
    return step


def resumed(recipe: Recipe, batches: list[Batch], iterations: int = 4) -> None:
    """T2I and edits in turns, stopped after each iteration."""

    def run(folder: Path, until: int) -> dict[str, Any]:
        torch._dynamo.reset()  # as a new process finds it
        backbone, rng = load_backbone(recipe.model, dtype=torch.bfloat16, parts="transformer"), NamedRNG(0)
        plan = recipe.run.model_copy(
            update={"iterations": until, "save_every_iterations": 1, "best_by": None, "keep_checkpoints": 9}
        )
        spec = RolesSpec(recipe.student, recipe.critic, recipe.teachers, iterations)
        roles = build_roles(backbone, spec, rng, Execution(precision=plan.precision, compile=True))
        step = build_dmd_step(roles, DMDSettings(recipe.student, recipe.critic, recipe.objective), rng)
        outcome = Trainer(folder, step, lambda i: batches[i % len(batches)], plan).train()
        return load_checkpoint(outcome.last, torch.device("cpu"))[0]

    with tempfile.TemporaryDirectory() as place:
        whole = run(Path(place) / "whole", iterations)
        for stop in range(1, iterations):
            run(Path(place) / str(stop), stop)
            again = run(Path(place) / str(stop), iterations)
            odd = [f"{f}/{n}" for f, held in whole.items() for n, w in held.items() if not torch.equal(w, again[f][n])]
            total = sum(map(len, whole.values()))
            print(f"stopped after {stop} of {iterations}: {len(odd)} of {total} tensors differ", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="pocket")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--task", default="t2i", choices=("t2i", "edit"))
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--recompute", default="off", choices=("off", "selective", "full"), help="on both sides")
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    keep_freed_memory()
    backbone: Backbone = load_backbone(options.model, dtype=torch.bfloat16)
    refuse_without_compiler(backbone.device)
    # The base alone: the pocket's own LoRA fits no other model.
    settings = ["student.init_from=null", "teachers.named={}", *options.overrides]
    if options.resume:
        batches = [batch_of(backbone, task, options.batch) for task in ("t2i", "edit")]
        resumed(load_recipe("pocket", settings), batches)
        return
    batch = batch_of(backbone, options.task, options.batch)
    print(f"{options.model}, {options.task}, batch {options.batch}, {torch.get_num_threads()} threads", flush=True)
    how = options.recompute
    plain, fast = step_of(options.model, settings, how), step_of(options.model, settings, how, compile=True)

    def iterate(step: DMDStep, k: int) -> None:
        step.iterate(k, max(k, step.settings.objective.first_matched_step(options.task)), batch)

    for k in range(plain.settings.student.steps):
        begun = time.perf_counter()
        iterate(fast, k)
        print(f"step {k}: first iteration {time.perf_counter() - begun:.1f} s", flush=True)
    told(
        "blocks compiled",
        interleaved({"off": lambda k: iterate(plain, k), "on": lambda k: iterate(fast, k)}, options.rounds),
    )
    kept = [kept_bytes(step, batch) for step in (plain, fast)]
    if how == "selective":  # torch keeps what is chosen by operation where no hook sees it
        print(f"kept for backward, compiled: {kept[1] / 1e6:.1f} MB", flush=True)
    else:
        print(f"kept for backward: {kept[0] / 1e6:.1f} MB, compiled {kept[1] / 1e6:.1f} MB", flush=True)
    for precision in ("fp32", "bf16"):
        pair = (step_of(options.model, settings, how, precision, compile) for compile in (False, True))
        print(f"gradient of the critic, {precision}: {difference(*pair, batch):.1e} of the largest", flush=True)


if __name__ == "__main__":
    main()
