"""Each saving of an iteration, on and off in one process: processor seconds of whole iterations, taken in turns.

Off, each is left out of the same iteration of the same recipe (the shipped one, at a smaller batch); the ratios say
what an iteration costs with it, to without it. Figures of the iteration stay what they were, up to rounding; where a
rollout is done anew for each critic update its noise is too.

python benchmarks/savings.py [MODEL] [--batch 16] [--rounds 6] [--task t2i]
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from PIL import Image

from fewstep.backbones import attention
from fewstep.backbones.backbone import Backbone, Prefix
from fewstep.backbones.conditioning import Conditioning, stack
from fewstep.backbones.families import load_backbone
from fewstep.encode.batch import Batch
from fewstep.flow.rng import NamedRNG
from fewstep.flow.sigmas import SigmaGrid
from fewstep.flow.solver import trajectory
from fewstep.objective.rollout import roll_out
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.execution import Execution
from fewstep.roles.teachers import Prefixes
from fewstep.run.precision import settle_precision
from fewstep.run.recipe import load_recipe
from fewstep.runtime.allocator import keep_freed_memory
from fewstep.runtime.device import autocast
from fewstep.train.build import build_dmd_step
from fewstep.train.dmd_step import DMDStep
from fewstep.train.monitor import StepMetrics
from fewstep.train.settings import DMDSettings
from fewstep.train.student_rollout import RolloutState, StudentRollouts

PROMPTS = {
    "t2i": 'A sign shaped as a board painted red with white letters reading "HEY" before a teal wall.',
    "edit": "Show the person in a blue shirt",
}
SIZE = (64, 64)
KindT = TypeVar("KindT", DMDStep, StudentRollouts)


class RolloutEach(DMDStep):
    """A rollout for each critic update."""

    def update_critic(self, states: Sequence[RolloutState], k: int | None, name: str, i: int) -> StepMetrics:
        for j in range(self.settings.critic.updates - 1):
            states = [self.student.roll_out(state.batch, f"{name} rollout {j}", i, k) for state in states]
        return super().update_critic(states, k, name, i)


class WholeRollout(StudentRollouts):
    """All K steps, whichever is improved."""

    def roll_out(self, batch: Batch, name: str, i: int, exit_step: int | None, keep: bool = False) -> RolloutState:
        return super().roll_out(batch, name, i, None, keep)


class NoCache(StudentRollouts):
    """The rollout without a cached prefix."""

    def roll_out(self, batch: Batch, name: str, i: int, exit_step: int | None, keep: bool = False) -> RolloutState:
        last = exit_step if self.settings.critic.exit_step == "same" else None
        with torch.no_grad(), self.student.active():
            noise_BND = self.draws.noise(batch, name, i)
            return RolloutState(
                batch, roll_out(self.student.bind(batch.cond), noise_BND, self.settings.student.grid, last)
            )


class PrefixEach(StudentRollouts):
    """Extra losses ask the student as if nothing of the batch were known."""

    def _prefix(self, batch: Batch) -> Prefix | None:
        return None


class Loop(torch.optim.AdamW):
    """AdamW one tensor after another. It knows no switch to skip an update, so that is dropped."""

    def step(self, closure: Any = None) -> Any:
        vars(self).pop("found_inf", None)
        return super().step(closure)


class StockAttention(DMDStep):
    """Attends by torch's fused kernel whatever the length."""

    def iterate(self, i: int, k: int, *parts: Batch) -> StepMetrics:
        with attention.only_stock():
            return super().iterate(i, k, *parts)


def as_kind(kind: type[KindT], given: KindT) -> KindT:
    """The same step, or rollouts, with another kind's steps."""
    return kind(**{field.name: getattr(given, field.name) for field in fields(given)})


def made(
    model: str,
    settings: list[str],
    kind: type[DMDStep] = DMDStep,
    rollouts: type[StudentRollouts] = StudentRollouts,
    loop: bool = False,
    transformer: Backbone | None = None,
) -> DMDStep:
    """The pocket recipe's step, with the steps of these kinds. loop: AdamW takes one tensor after another."""
    # The base alone: the pocket's own LoRA fits no other model.
    recipe = settle_precision(load_recipe("pocket", ["student.init_from=null", "teachers.named={}", *settings]))
    rng, backbone = NamedRNG(0), transformer or load_backbone(model, dtype=torch.bfloat16, parts="transformer")
    spec = RolesSpec(recipe.student, recipe.critic, recipe.teachers, iterations=1000)
    roles = build_roles(backbone, spec, rng, Execution(precision=recipe.run.precision))
    step = build_dmd_step(roles, DMDSettings(recipe.student, recipe.critic, recipe.objective), rng)
    for role_optimizer in (step.optimizers.student, step.optimizers.critic) if loop else ():
        plain = role_optimizer.optimizer.param_groups[0]
        role_optimizer.optimizer = Loop(
            plain["params"], lr=plain["lr"], betas=plain["betas"], weight_decay=plain["weight_decay"], foreach=False
        )
    return as_kind(kind, replace(step, student=as_kind(rollouts, step.student)))


def batch_of(backbone: Backbone, task: str, size: int, pixels: tuple[int, int] = SIZE) -> Batch:
    """One prompt; its negative prompt as long as it, so that both branches can go together."""
    references = [Image.new("RGB", pixels, "teal")] if task == "edit" else None
    cond = stack(backbone.encode([PROMPTS[task]], references, pixels) * size)
    negative = replace(cond, text_BLC=cond.text_BLC.flip(1))
    return Batch(0, task, cond, {"": negative}, tuple(range(size)), ("any",) * size, ("case",) * size)  # type: ignore[arg-type]


def interleaved(runs: dict[str, Callable[[int], object]], rounds: int, each: int = 4) -> dict[str, list[float]]:
    """Processor seconds of rounds of `each` iterations (all K exit steps); the first, uncounted, warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for r in range(rounds + 1):
        for name in runs if r % 2 else reversed(runs):
            begun = time.process_time()
            for k in range(each):
                runs[name](k)
            if r:
                seconds[name].append((time.process_time() - begun) / each)
    return seconds


def told(title: str, seconds: dict[str, list[float]]) -> None:
    on, off = (seconds[name] for name in ("on", "off"))
    pairs = statistics.median(a / b for a, b in zip(on, off, strict=True))
    print(
        f"{title:44} on {1e3 * min(on):6.0f} ms (median {1e3 * statistics.median(on):.0f}), off {1e3 * min(off):6.0f} "
        f"({1e3 * statistics.median(off):.0f}); on/off: minima {min(on) / min(off):.2f}, median of pairs {pairs:.2f}",
        flush=True,
    )


def rollouts(backbone: Backbone, rounds: int, size: int) -> None:
    """The prefix cache in a 4-step rollout, by reference tokens."""
    grid = SigmaGrid.static(4)
    for count in (0, 1, 2, 4):
        references = [Image.new("RGB", SIZE, "teal")] * count or None
        cond = stack(backbone.encode([PROMPTS["edit" if count else "t2i"]], references, SIZE) * size)
        noise_BND = torch.randn(size, *backbone.noise_shape(cond.layout))
        seconds = interleaved(
            {"off": _walk(backbone, cond, noise_BND, grid, False), "on": _walk(backbone, cond, noise_BND, grid, True)},
            rounds, 1,
        )  # fmt: skip
        texts, tokens = cond.text_BLC.shape[1], cond.layout.reference_tokens
        told(f"rollout: {texts} text + {tokens} reference tokens cached", seconds)


def _walk(
    backbone: Backbone, cond: Conditioning, noise_BND: torch.Tensor, grid: SigmaGrid, cache: bool
) -> Callable[[int], object]:
    def walk(_: int) -> object:
        with torch.no_grad(), autocast(noise_BND.device, "bf16"):
            net = backbone.transformer
            prefix = backbone.prefix(net, cond) if cache else None
            return trajectory(lambda z, t: backbone.velocity(net, z, t, cond, prefix), noise_BND, grid)

    return walk


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="pocket")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--task", default="t2i", choices=sorted(PROMPTS))
    options = parser.parse_args()
    keep_freed_memory()
    backbone = load_backbone(options.model, dtype=torch.bfloat16)
    batch = batch_of(backbone, options.task, options.batch)
    print(f"{options.model}, {options.task}, batch {options.batch}, bf16, {torch.get_num_threads()} threads")
    rollouts(backbone, options.rounds, options.batch)

    def against(title: str, off: DMDStep, on: DMDStep) -> None:
        def run(step: DMDStep) -> Callable[[int], object]:
            return lambda k: step.iterate(k, max(k, step.settings.objective.first_matched_step(options.task)), batch)

        told(title, interleaved({"off": run(off), "on": run(on)}, options.rounds))

    usual = made(options.model, [])
    against("one rollout for 2 critic updates", made(options.model, [], RolloutEach), usual)
    five = ["critic.updates=5"]
    against("one rollout for 5 critic updates", made(options.model, five, RolloutEach), made(options.model, five))
    against("the rollout ends at the improved step", made(options.model, [], rollouts=WholeRollout), usual)
    against("prefix cache in the rollout", made(options.model, [], rollouts=NoCache), usual)
    against("extra losses share prefixes", _forgetful(made(options.model, [], rollouts=PrefixEach)), usual)
    against("the improved step's forward once", usual, made(options.model, ["student.forward_once=true"]))
    apart = made(options.model, [])
    apart.roles.teachers.batched_cfg = False
    against("both branches of guidance in one forward", apart, usual)
    against("fused AdamW, to a loop", made(options.model, [], loop=True), usual)
    against("short attention by plain products", as_kind(StockAttention, usual), usual)
    full = ["student.mode=full", "critic.mode=full"]
    loop = made(options.model, full, loop=True)
    against("fused AdamW, to a loop, full copies", loop, made(options.model, full))


def _forgetful(step: DMDStep) -> DMDStep:
    """Its teachers keep no prefixes either."""
    teachers = step.roles.teachers
    prediction = teachers.prediction

    def forgetting(*given: Any, prefixes: Prefixes | None = None, **named: Any) -> Any:
        return prediction(*given, prefixes=None, **named)

    teachers.prediction = forgetting  # type: ignore[method-assign]
    return step


if __name__ == "__main__":
    main()
