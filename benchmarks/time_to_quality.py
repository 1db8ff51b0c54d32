"""Time until the probe's score: our schedule against plain DMD2, on the pocket teacher.

  ours    the recipe as it was when its figures were published: one rollout for the whole iteration, on cached
          prefixes; the critic learns the step that is about to be improved, `critic.updates` times; the recipe's terms
  plain   DMD2: every critic update and every student update rolls out anew, up to a step drawn for it, without a cache;
          five critic updates for one of the student; no further term

Both start as the base and have it for their teacher; same cases, learning rates, batch, guidance, averages and loss.
Both sides take turns in one process, whichever has used less processor time goes next, so that at any moment both have
had the same; on a shared machine with one thread these seconds are the measure. Looking at the student is not counted.

OMP_NUM_THREADS=1 python benchmarks/time_to_quality.py --out FOLDER [--seconds 900] [--set run.seed=1]
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import torch

from fewstep.backbones.families import load_backbone
from fewstep.encode.batch import Batch
from fewstep.flow import path
from fewstep.flow.rng import NamedRNG
from fewstep.flow.solver import trajectory
from fewstep.objective.critic import critic_loss
from fewstep.objective.dmd import dmd_loss
from fewstep.objective.rollout import Rollout
from fewstep.pocket.student_eval import probe_eval
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.execution import Execution
from fewstep.roles.step_index import StepIndex
from fewstep.run.encoding import encode_recipe
from fewstep.run.recipe import Recipe, load_recipe
from fewstep.runtime.allocator import keep_freed_memory
from fewstep.train.build import build_dmd_step
from fewstep.train.dmd_step import DMDStep
from fewstep.train.settings import DMDSettings

EVERY = 8  # iterations between two looks
MEASURED = (  # the pocket recipe as it was when the published figures were taken: the base alone
    "student.init_from=null",
    "teachers.named={}",
    "teachers.base.guidance.t2i.scale=3.5",
)
ANCHORED = ("objective.first_step_anchor.weight=0.25", "objective.first_step_anchor.teacher_steps=2")
PLAIN = ("critic.updates=5", "critic.exit_step=drawn", "objective.first_step_anchor=null")


class PlainDMD2(DMDStep):
    """One student update as DMD2 has it: `critic.updates` of the critic before, each on a rollout of its own."""

    def iterate(self, i: int, k: int, *parts: Batch) -> dict[str, torch.Tensor]:
        (batch,) = parts
        for j in range(self.settings.critic.updates):
            self.update_plain_critic(batch, i, j)
        draws, step = self.student.draws, self.drawn_step("plain exit", i)
        z_k = self.states(batch, step, "plain rollout", i)[step]
        t_k = z_k.new_full((len(z_k),), self.settings.student.grid[step])
        x0_BND = path.clean(z_k, self.roles.student.velocity(z_k, t_k, batch.cond), t_k)
        t_B = draws.times(batch, "time", i)
        z_BND = path.noised(x0_BND.detach(), draws.noise(batch, "noise", i), t_B)
        v_real_BND = self.roles.teachers.velocity(z_BND, t_B, batch, StepIndex(i, step))
        with torch.no_grad():
            v_fake_BND = self.roles.critic.velocity(z_BND, t_B, batch.cond)
        loss, metrics = dmd_loss(x0_BND, z_BND, t_B, v_real_BND, v_fake_BND, self.settings.objective.normaliser_floor)
        self.optimizers.student.backward(loss)
        self.optimizers.student.step()
        self.optimizers.ema.update()
        return metrics

    def update_plain_critic(self, batch: Batch, i: int, j: int) -> None:
        """Update j of iteration i. An Euler step keeps its velocity, so x0 follows from the states on both sides."""
        step = self.drawn_step("plain critic exit", i, j)
        states = self.states(batch, step + 1, "plain critic rollout", i, j)
        x0_BND = Rollout(self.settings.student.grid, tuple(states)).clean(step)
        eps_BND = self.student.draws.noise(batch, "critic noise", i, j)
        t_B = self.student.draws.times(batch, "critic time", i, j)
        loss, _ = critic_loss(self.roles.critic.bind(batch.cond), x0_BND, eps_BND, t_B)
        self.optimizers.critic.backward(loss)
        self.optimizers.critic.step()

    def drawn_step(self, name: str, *counters: int) -> int:
        """One of the K student steps, all alike probable."""
        steps = self.settings.student.steps
        return int(steps * self.student.draws.rng.uniform((), name, *counters))

    def states(self, batch: Batch, steps: int, name: str, *counters: int) -> list[torch.Tensor]:
        """The student's states after 0 to `steps` of its steps, from fresh noise and without a cache."""
        noise_BND = self.student.draws.noise(batch, name, *counters)
        with torch.no_grad():
            return trajectory(self.roles.student.bind(batch.cond), noise_BND, self.settings.student.grid, steps)


class Side:
    """One run that is iterated by hand, with the processor seconds that it has used and what was seen of it."""

    def __init__(self, recipe: Recipe, batch: Callable[[int], Batch], examine_every: int, plain: bool):
        rng = NamedRNG(recipe.run.seed)
        backbone = load_backbone(recipe.model, dtype=torch.bfloat16, parts="transformer")
        spec = RolesSpec(recipe.student, recipe.critic, recipe.teachers, recipe.run.iterations)
        roles = build_roles(backbone, spec, rng, Execution(precision=recipe.run.precision))
        self.step = build_dmd_step(roles, DMDSettings(recipe.student, recipe.critic, recipe.objective), rng)
        if plain:
            self.step = PlainDMD2(**{field.name: getattr(self.step, field.name) for field in fields(self.step)})
        self.batch, self.every = batch, examine_every
        self.iteration, self.seconds, self.seen = 0, 0.0, []  # type: int, float, list[dict[str, float]]
        self.turns = {"t2i": 0, "edit": 0}

    def examined_by(self, examiner: Callable[..., Callable[[int], object]], recipe: Recipe) -> None:
        self.examine = examiner(self.step.roles.student, recipe.student.grid, recipe.run.precision)

    def go_on(self) -> None:
        batch = self.batch(self.iteration)
        k = self.step.student.exit_step(batch.task, self.turns[batch.task])
        self.turns[batch.task] += 1
        begun = time.process_time()
        self.step.iterate(self.iteration, k, batch)
        self.seconds += time.process_time() - begun
        self.iteration += 1
        if self.iteration % self.every == 0:
            with self.step.optimizers.ema.applied():
                found = dict(self.examine(self.iteration))  # type: ignore[call-overload]
            self.seen.append({"iteration": self.iteration, "seconds": round(self.seconds, 1), **found})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=900, help="processor seconds of each side")
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    keep_freed_memory()
    ours = load_recipe("pocket", [*MEASURED, *ANCHORED, *options.set])
    plain = load_recipe("pocket", [*MEASURED, *options.set, *PLAIN])
    options.out.mkdir(parents=True, exist_ok=True)
    prepared = encode_recipe(ours, options.out)
    examiner, loader = probe_eval(load_backbone(ours.model, dtype=torch.bfloat16)), prepared.loader()
    sides = {"ours": Side(ours, loader.batch, EVERY, False), "plain": Side(plain, loader.batch, EVERY, True)}
    for name, side in sides.items():
        side.examined_by(examiner, ours if name == "ours" else plain)
    while True:
        name, side = min(sides.items(), key=lambda one: one[1].seconds)
        if side.seconds >= options.seconds:
            break
        side.go_on()
        (options.out / "seen.json").write_text(json.dumps({n: s.seen for n, s in sides.items()}, indent=1))
        print(f"{name} {side.iteration}: {side.seconds:.0f} s {side.seen[-1] if side.seen else ''}", flush=True)
    report({name: side.seen for name, side in sides.items()})


def report(seen: dict[str, list[dict[str, float]]]) -> None:
    """Seconds until each score is first reached and held over two looks."""
    print("score   ours s   plain s   ratio")
    for score in (0.95, 0.96, 0.97, 0.98, 0.99, 0.995, 0.999):
        at = {name: reached(looks, score) for name, looks in seen.items()}
        told = [f"{at[name]:9.0f}" if at[name] else "    never" for name in ("ours", "plain")]
        ratio = f"{at['ours'] / at['plain']:.2f}" if at["ours"] and at["plain"] else "-"
        print(f"{score:.3f} {told[0]} {told[1]}   {ratio}")


def reached(looks: list[dict[str, float]], score: float) -> float | None:
    """The seconds of the first of two looks in a row that are at least `score`."""
    for look, after in pairwise(looks):
        if min(look["score"], after["score"]) >= score:
            return look["seconds"]
    return None


if __name__ == "__main__":
    main()
