"""Processor seconds until the student scores as its teacher: the pocket recipe against plain DMD2 and other schedules.

  ours    the recipe as it ships
  plain   DMD2: every critic update and every student update rolls out anew, up to a step drawn for it, without a cache;
          five critic updates for one of the student; no further term
  others  the recipe with keys of your own, each by `--side NAME KEY=VALUE ...`

All begin from the same weights, with the same teachers, cases, batch, loss and average. They take turns in one
process: whichever has used less processor time goes next, so at any moment all have had the same. On a shared machine
with one thread these seconds are the measure. Looking at a student is not counted. A side ends after --seconds, or, if
it has not scored as the teacher by then, after --most. --every: iterations between two looks, until that score is held.

The probe reads 216 cases (72 prompts, 144 edits). The teacher draws the same cases in its own 40 steps with guidance.

OMP_NUM_THREADS=1 python benchmarks/time_to_quality.py --out FOLDER [--seeds 0 1 2] [--seconds 240] [--most 900]
    [--every 2] [--no-plain] [--side warm critic.updates=1 ...] [--set KEY=VALUE ...]
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
from fewstep.pocket.exam import ExamSpec, headline
from fewstep.pocket.probe import Probe
from fewstep.pocket.student_eval import CASES, SEED, probe_eval, with_score
from fewstep.pocket.systems import system_of
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.execution import Execution
from fewstep.roles.step_index import StepIndex
from fewstep.roles.student_eval import StudentEvalBuilder
from fewstep.run.encoding import encode_recipe
from fewstep.run.pocket_exam import teacher_guidance
from fewstep.run.precision import settle_precision
from fewstep.run.recipe import Recipe, load_recipe
from fewstep.runtime.allocator import keep_freed_memory
from fewstep.runtime.device import PRECISIONS
from fewstep.sample.pictures import open_model
from fewstep.train.build import build_dmd_step
from fewstep.train.dmd_step import DMDStep
from fewstep.train.monitor import to_host
from fewstep.train.settings import DMDSettings

LATER = 48  # iterations between two looks after the teacher's score was held
TEACHER_STEPS = 40
PLAIN = ("critic.updates=5", "critic.exit_step=drawn", "objective.segment_guidance=null")


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

    def __init__(
        self, recipe: Recipe, batch: Callable[[int], object], examiner: StudentEvalBuilder, plain: bool, every: int
    ):
        rng = NamedRNG(recipe.run.seed)
        backbone = load_backbone(recipe.model, dtype=PRECISIONS[recipe.run.precision], parts="transformer")
        spec = RolesSpec(recipe.student, recipe.critic, recipe.teachers, recipe.run.iterations)
        roles = build_roles(backbone, spec, rng, Execution(precision=recipe.run.precision))
        self.step = build_dmd_step(roles, DMDSettings(recipe.student, recipe.critic, recipe.objective), rng)
        if plain:
            self.step = PlainDMD2(**{field.name: getattr(self.step, field.name) for field in fields(self.step)})
        self.batch, self.examine = batch, examiner(roles.student, recipe.student.grid, recipe.run.precision)
        self.every = every
        self.iteration, self.seconds, self.seen = 0, 0.0, []  # type: int, float, list[dict[str, float]]
        self.turns = {"t2i": 0, "edit": 0}

    def go_on(self, wanted: float) -> None:
        batch = self.batch(self.iteration)
        assert isinstance(batch, Batch)
        k = self.step.student.exit_step(batch.task, self.turns[batch.task])
        self.turns[batch.task] += 1
        begun = time.process_time()
        to_host(self.step.iterate(self.iteration, k, batch))
        self.seconds += time.process_time() - begun
        self.iteration += 1
        if self.iteration % (LATER if reached(self.seen, wanted) else self.every) == 0:
            with self.step.optimizers.ema.applied():
                found = dict(self.examine(self.iteration))
            self.seen.append({"iteration": self.iteration, "seconds": round(self.seconds, 1), **found})

    def ended(self, wanted: float, seconds: float, most: float) -> bool:
        return self.seconds >= (seconds if reached(self.seen, wanted) else max(seconds, most))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--seconds", type=float, default=240, help="processor seconds of each side")
    parser.add_argument("--most", type=float, default=900, help="the same, if it scores below the teacher")
    parser.add_argument("--every", type=int, default=2, help="iterations between two looks")
    parser.add_argument("--no-plain", action="store_true")
    parser.add_argument("--side", action="append", nargs="+", default=[], metavar=("NAME", "KEY=VALUE"))
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    keep_freed_memory()
    keys: dict[str, list[str]] = {"ours": [], **{name: some for name, *some in options.side}}
    keys |= {} if options.no_plain else {"plain": list(PLAIN)}
    options.out.mkdir(parents=True, exist_ok=True)
    wanted = teacher_score(options.out / "teacher.json")
    for seed in options.seeds:
        common = [f"run.seed={seed}", *options.set]
        recipes = {name: settle_precision(load_recipe("pocket", [*common, *some])) for name, some in keys.items()}
        run_sides(recipes, wanted, options)
    report({seed: json.loads((options.out / f"seen-{seed}.json").read_text()) for seed in options.seeds}, wanted)


def teacher_score(kept: Path) -> float:
    """What the teacher scores on the cases that students are looked at by; drawn once."""
    if not kept.exists():
        model = open_model("pocket")
        questions = ExamSpec(cases=CASES, diversity=0, seed=SEED).questions()
        sampler = system_of(model, TEACHER_STEPS, teacher_guidance()).sampler
        kept.write_text(json.dumps(with_score(headline(sampler, questions, Probe.load())), indent=1))
    found: dict[str, float] = json.loads(kept.read_text())
    print(f"teacher, {TEACHER_STEPS} guided steps: {found}", flush=True)
    return found["score"]


def run_sides(recipes: dict[str, Recipe], wanted: float, options: argparse.Namespace) -> None:
    """All sides of one seed in turns; what was seen of them is written after every iteration."""
    ours = recipes["ours"]
    prepared = encode_recipe(ours, options.out)
    model = load_backbone(ours.model, dtype=PRECISIONS[ours.run.precision])
    examiner, loader = probe_eval(model), prepared.loader()
    sides = {
        name: Side(recipe, loader.batch, examiner, name == "plain", options.every) for name, recipe in recipes.items()
    }
    kept = options.out / f"seen-{ours.run.seed}.json"
    while going := {
        name: side for name, side in sides.items() if not side.ended(wanted, options.seconds, options.most)
    }:
        name, side = min(going.items(), key=lambda one: one[1].seconds)
        side.go_on(wanted)
        kept.write_text(json.dumps({n: s.seen for n, s in sides.items()}, indent=1))
        score = f", score {side.seen[-1]['score']:.4f}" if side.seen else ""
        print(f"seed {ours.run.seed}, {name} {side.iteration}: {side.seconds:.0f} s{score}", flush=True)


def report(seen: dict[int, dict[str, list[dict[str, float]]]], wanted: float) -> None:
    """Seconds until the teacher's score is first reached and held over two looks, by seed; then what was seen last."""
    names = list(next(iter(seen.values())))
    for name in names:
        at = [reached(sides[name], wanted) for sides in seen.values()]
        print(f"{name:12} {' '.join(f'{a:7.0f}' if a else '  never' for a in at)}   s to {wanted:.4f}")
        for seed, sides in seen.items():
            print(f"{'':12} seed {seed}, last: {sides[name][-1]}")


def reached(looks: list[dict[str, float]], score: float) -> float | None:
    """The seconds of the first of two looks in a row that are at least `score`."""
    for look, after in pairwise(looks):
        if min(look["score"], after["score"]) >= score:
            return look["seconds"]
    return None


if __name__ == "__main__":
    main()
