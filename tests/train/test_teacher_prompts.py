"""A student that reads short prompts, taught by a teacher that reads their rewritings: on Gaussian worlds."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.backbones.conditioning import Conditioning, stack
from fewstep.backbones.testing.toy import ToyBackbone
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.plan import TeachersSpec
from tests.train.gaussian_runs import BASE, ITERATIONS, RNG, SAMPLES, SIDE, SIGMAS, batch_of, plans, step_over
from tests.train.tiny_model import batch, tiny_dmd_step

SHORT, LONG = "lamp", "snow evening harbour"  # what the student reads, and its rewriting for the teacher


def cond_of(backbone: ToyBackbone, prompt: str, samples: int) -> Conditioning:
    return stack(backbone.encode([prompt], None, (SIDE, SIDE)) * samples)


def law_after(backbone: ToyBackbone, critic_reads: Any, rewritten: bool) -> tuple[Tensor, Tensor]:
    """Mean and spread by channel of what the student samples under the short prompt, after a short training."""
    student, critic = plans()
    critic = critic.model_copy(update={"prompts": critic_reads})
    roles = build_roles(backbone, RolesSpec(student, critic, TeachersSpec(), ITERATIONS), RNG)
    m = step_over(roles, student, critic)
    short, long = (cond_of(backbone, prompt, SAMPLES) for prompt in (SHORT, LONG))
    for i in range(ITERATIONS):
        given = replace(batch_of(backbone, i), cond=short, teacher_cond=long if rewritten else None)
        m.iterate(i, m.student.exit_step("t2i", i), given)
    look = replace(batch_of(backbone, 0), cond=cond_of(backbone, SHORT, 250), samples=tuple(range(250)))
    with m.optimizers.ema.applied():
        x0 = m.student.roll_out(look, "look", 0, None).rollout.states[-1].flatten(0, 1)
    return x0.mean(0), x0.var(0)


@pytest.mark.parametrize("critic_reads", ["student", "teacher"])
def test_under_the_short_prompt_the_student_reaches_the_teachers_law_under_the_long_one(critic_reads: Any) -> None:
    backbone = ToyBackbone(BASE, knots=SIGMAS)
    wanted, other = (backbone.world_of(cond_of(backbone, prompt, 1)) for prompt in (LONG, SHORT))
    assert (wanted.mean_ND - other.mean_ND).abs().max() > 0.25
    mean, var = law_after(backbone, critic_reads, rewritten=True)
    assert (mean - wanted.mean_ND[0, 0]).abs().max() < 0.06
    assert (var / wanted.var_ND[0]).sqrt().sub(1).abs().max() < 0.15


def test_without_rewritings_it_reaches_the_law_under_its_own_prompt() -> None:
    backbone = ToyBackbone(BASE, knots=SIGMAS)
    mean, _ = law_after(backbone, "student", rewritten=False)
    assert (mean - backbone.world_of(cond_of(backbone, SHORT, 1)).mean_ND[0, 0]).abs().max() < 0.06


@pytest.mark.parametrize("task", ["t2i", "edit"])
def test_only_the_teachers_read_their_prompts(task: Any) -> None:
    """By default: the same batch with other prompts for the teachers gives the same critic and another student."""
    ended = []
    for taught in (False, True):
        made, given = tiny_dmd_step(), batch(0, task=task)
        if taught:
            given = replace(given, teacher_cond=batch(1, task=task).cond)
        made.iterate(0, 1, given)
        ended.append((made.roles.critic.state(), made.roles.student.state()))
    assert all(torch.equal(weight, ended[1][0][name]) for name, weight in ended[0][0].items())
    assert any(not torch.equal(weight, ended[1][1][name]) for name, weight in ended[0][1].items())


def test_the_critic_reads_them_where_asked() -> None:
    ended = []
    for reads in ("student", "teacher"):
        made = tiny_dmd_step(prompts=reads)
        made.iterate(0, 1, replace(batch(0), teacher_cond=batch(2).cond))
        ended.append(made.roles.critic.state())
    assert any(not torch.equal(weight, ended[1][name]) for name, weight in ended[0].items())


def test_parts_of_a_batch_keep_the_teachers_prompts() -> None:
    whole = replace(batch(0, size=3), teacher_cond=batch(1, size=3, task="t2i").cond)
    assert whole.teacher_cond is not None
    parts = whole.micro_batches(2)
    read = [part.read_by("teacher").text_BLC for part in parts]
    assert torch.equal(torch.cat(read), whole.teacher_cond.text_BLC)
