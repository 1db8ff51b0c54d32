"""Who must teach a student that begins as a LoRA: the LoRA at every step, or the base at the first ones.

A world of Gaussian mixtures, whose velocities are known exactly. The base and the LoRA are the exact velocities of two
mixtures with other places and shares of their modes. The student of 4 steps begins as the LoRA and is distilled by the
package's own iteration (`train/dmd_step.py`). Printed is the energy distance of its pictures to the LoRA's law.

  all steps    the LoRA anchors every student step, as the recipe `my-lora` says
  step-wise    rows 0, 0, 0.5, 1: the base teaches the first two steps

Both also for a student that begins as the base, for which step-wise is meant.

python benchmarks/lora_teacher.py [--iterations 600] [--seeds 3]
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fewstep.backbones.backbone import Prefix
from fewstep.backbones.conditioning import Conditioning, stack
from fewstep.backbones.testing.toy import ToyBackbone
from fewstep.encode.batch import Batch
from fewstep.flow.rng import NamedRNG
from fewstep.flow.sigmas import SigmaGrid
from fewstep.objective.plan import ObjectivePlan
from fewstep.objective.rollout import roll_out
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.network import Network
from fewstep.roles.plan import CriticPlan, StudentPlan, TeachersSpec
from fewstep.roles.roles import Roles
from fewstep.roles.teacher_plan import TeacherPlan, TeacherSchedule, preset_rows
from fewstep.roles.teachers import Teacher, Teachers
from fewstep.train.build import build_dmd_step
from fewstep.train.dmd_step import DMDStep
from fewstep.train.settings import DMDSettings

SIGMAS = (1.0, 0.9, 0.75, 0.5)  # of the shipped recipes
SAMPLES, SIDE = 16, 64  # 16 samples of 16 tokens of 3 channels; every token obeys the law on its own
WIDTH = 48  # of the networks' corrections
LOOKED_AT = 128  # samples of which a distance is taken: 2,048 tokens


class MixtureNetwork(nn.Module):
    """The exact velocity of a mixture of Gaussians, and a correction that is learnt and begins at zero, as a LoRA does.

    x0 ~ sum_j w_j N(m_j, s^2) on the path z = (1 - t) x0 + t eps. Given mode j, E[x0 | z] is linear in z; the modes'
    shares given z are a softmax of their log likelihoods. v = (z - E[x0 | z]) / t.
    """

    def __init__(self, means_JD: Tensor, shares_J: Tensor, spread: float, seed: int = 0):
        super().__init__()
        self.register_buffer("means_JD", means_JD)
        self.register_buffer("shares_J", shares_J)
        self.spread = spread
        channels, rng = means_JD.shape[1], NamedRNG(seed)
        self.first, self.second = nn.Linear(channels + 6, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.last = nn.Linear(WIDTH, channels)
        with torch.no_grad():
            for name, layer in (("first", self.first), ("second", self.second)):
                bound = layer.in_features**-0.5
                layer.weight.copy_(bound * (2 * rng.uniform(layer.weight.shape, name) - 1))
                layer.bias.zero_()
            self.last.weight.zero_()
            self.last.bias.zero_()

    def law(self, count: int, name: str) -> Tensor:
        """Samples of the mixture, (count, D)."""
        rng = NamedRNG(0)
        edges = self.get_buffer("shares_J").cumsum(0)
        modes = torch.searchsorted(edges, rng.uniform((count,), f"{name} modes")).clamp_max(len(edges) - 1)
        means = self.get_buffer("means_JD")[modes]
        return means + self.spread * rng.normal(means.shape, f"{name} spread")

    def exact(self, z_BND: Tensor, t_B: Tensor) -> Tensor:
        means, var = self.get_buffer("means_JD"), self.spread**2
        t = t_B[:, None, None, None]
        away = z_BND[:, :, None] - (1 - t) * means  # BNJD
        var_t = (1 - t) ** 2 * var + t**2
        shares = (self.get_buffer("shares_J").log() - (away**2 / (2 * var_t)).sum(-1)).softmax(-1)[..., None]
        x0_BNJD = means + (1 - t) * var / var_t * away
        return (z_BND - (shares * x0_BNJD).sum(2)) / t_B[:, None, None]

    def forward(self, z_BND: Tensor, t_B: Tensor) -> Tensor:
        t = t_B[:, None, None].expand(*z_BND.shape[:2], 1)
        times = torch.cat([f(n * torch.pi * t) for n in (0.5, 1.0, 2.0) for f in (torch.sin, torch.cos)], -1)
        hidden = nn.functional.silu(self.first(torch.cat([z_BND, times], -1)))
        return self.exact(z_BND, t_B) + self.last(nn.functional.silu(self.second(hidden)))


class MixtureBackbone(ToyBackbone):
    """The base's mixture with the interface of a model family. Prompts say nothing here."""

    def __init__(self, network: MixtureNetwork):
        super().__init__()
        self.transformer = network.eval().requires_grad_(False)

    def velocity(
        self, transformer: nn.Module, z_BND: Tensor, t_B: Tensor, cond: Conditioning, prefix: Prefix | None = None
    ) -> Tensor:
        return transformer(z_BND, t_B)


def base_mixture() -> MixtureNetwork:
    means = torch.tensor([[0.9, 0.0, 0.0], [-0.9, 0.0, 0.3], [0.0, 0.9, -0.3], [0.0, -0.9, 0.0]])
    return MixtureNetwork(means, torch.full((4,), 0.25), 0.25)


def lora_mixture() -> MixtureNetwork:
    """What the user's LoRA draws: other places of the modes and other shares, as a LoRA that changes the layout has."""
    means = torch.tensor([[1.5, 0.6, 0.0], [0.3, 0.0, 0.9], [0.6, 1.5, -0.3], [0.6, -0.3, 0.0]])
    return MixtureNetwork(means, torch.tensor([0.4, 0.1, 0.4, 0.1]), 0.25)


def energy_distance(x_AD: Tensor, y_BD: Tensor) -> float:
    """sqrt(2 E|X - Y| - E|X - X'| - E|Y - Y'|)    [Szekely and Rizzo, Energy statistics, 2013]"""
    within = [torch.cdist(s, s).sum() / (len(s) * (len(s) - 1)) for s in (x_AD, y_BD)]
    return float((2 * torch.cdist(x_AD, y_BD).mean() - sum(within)).clamp_min(0).sqrt())


@dataclass(frozen=True)
class Arm:
    """A way to teach: whether the student begins as the LoRA, and the LoRA's weight by student step; None: it anchors
    all steps."""

    name: str
    as_lora: bool
    weights_K: tuple[float, ...] | None


ARMS = (
    Arm("LoRA, all steps", True, None),
    Arm("LoRA, step-wise", True, preset_rows("step-wise", len(SIGMAS))),
    Arm("base, all steps", False, None),
    Arm("base, step-wise", False, preset_rows("step-wise", len(SIGMAS))),
)


class World:
    """One run: base, LoRA, a student that learns, and the step that teaches it."""

    def __init__(self, arm: Arm, seed: int, iterations: int, rate: float = 1e-3):
        self.backbone = MixtureBackbone(base_mixture())
        self.lora = lora_mixture().requires_grad_(False)
        self.cond = stack(self.backbone.encode(["a word"], None, (SIDE, SIDE)) * SAMPLES)
        student = StudentPlan(mode="full", sigmas=SIGMAS, learning_rate=rate, ema=0.99)
        critic = CriticPlan(mode="full", learning_rate=2.5 * rate, updates=5)
        rng = NamedRNG(seed)
        roles = build_roles(self.backbone, RolesSpec(student, critic, TeachersSpec(), iterations), rng)
        if arm.as_lora:
            roles.student.transformer.load_state_dict(self.lora.state_dict())
        teacher = Teacher(Network("mine", self.backbone, self.lora), {})
        plan = TeacherPlan((TeacherSchedule("mine", arm.weights_K),))
        teachers = Teachers(plan, {**roles.teachers.teachers, "mine": teacher}, iterations)
        roles = Roles(roles.student, roles.critic, teachers)
        self.step: DMDStep = build_dmd_step(roles, DMDSettings(student, critic, ObjectivePlan()), rng)

    def iterate(self, i: int) -> None:
        samples = tuple(range(i * SAMPLES, (i + 1) * SAMPLES))
        batch = Batch(i, "t2i", self.cond, {}, samples, ("landscape",) * SAMPLES, ("a",) * SAMPLES)
        self.step.iterate(i, self.step.student.exit_step("t2i", i), batch)

    @torch.no_grad()
    def distance(self) -> float:
        """Of the averaged student's pictures to the LoRA's law."""
        eps = NamedRNG(1).normal((LOOKED_AT, self.cond.layout.target_tokens, 3), "look")
        with self.step.optimizers.ema.applied():
            velocity = self.step.roles.student.bind(stack([self.cond.rows([0])] * LOOKED_AT))
            pictures = roll_out(velocity, eps, SigmaGrid.of(SIGMAS)).states[-1].flatten(0, 1)
        return energy_distance(pictures, self.lora.law(len(pictures), "law"))

    def run(self, iterations: int, every: int) -> Iterator[float]:
        """The distance at the start and after each `every` iterations."""
        yield self.distance()
        for i in range(iterations):
            self.iterate(i)
            if (i + 1) % every == 0:
                yield self.distance()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=1e-3)
    options = parser.parse_args()
    every = options.iterations // 2
    columns = ["start", f"{every} updates", f"{2 * every} updates"]
    print("| the student begins as, and the LoRA teaches |", " | ".join(columns), "| seconds |")
    print("|---|", "---|" * len(columns), "---|", sep="")
    for arm in ARMS:
        begun_s = time.perf_counter()
        runs = [
            list(World(arm, s, options.iterations, options.rate).run(options.iterations, every))
            for s in range(options.seeds)
        ]
        figures = [f"{statistics.mean(at):.3f} ({min(at):.3f} to {max(at):.3f})" for at in zip(*runs, strict=True)]
        print(f"| {arm.name} |", " | ".join(figures), f"| {time.perf_counter() - begun_s:.0f} |", flush=True)


if __name__ == "__main__":
    main()
