"""Optional terms of the student's loss. A term is used only if the recipe switches it on."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.conditioning import Conditioning
from fewstep.flow import path
from fewstep.flow.rng import NamedRNG
from fewstep.flow.sigmas import SigmaGrid
from fewstep.flow.solver import Velocity
from fewstep.objective.decoupled_guidance import guidance_loss, guidance_times
from fewstep.objective.first_step_anchor import anchor_loss
from fewstep.objective.plan import (
    FirstStepAnchorPlan,
    ObjectivePlan,
    SegmentGuidancePlan,
)
from fewstep.objective.preservation import preservation_loss
from fewstep.objective.segment_guidance import segment_loss
from fewstep.roles.roles import Roles
from fewstep.roles.step_index import StepIndex
from fewstep.roles.teachers import Teachers
from fewstep.runtime.device import to_device
from fewstep.train.loss_inputs import ExtraLoss, LossInputs


def build_extra_losses(objective: ObjectivePlan, roles: Roles, grid: SigmaGrid, rng: NamedRNG) -> tuple[ExtraLoss, ...]:
    """The terms that are switched on."""
    extra_losses: list[ExtraLoss] = []
    if objective.first_step_anchor is not None:
        extra_losses.append(FirstStepAnchor(objective.first_step_anchor, roles, grid))
    if objective.segment_guidance is not None:
        extra_losses.append(SegmentGuidance(objective.segment_guidance, roles.teachers, grid))
    if objective.decoupled_guidance:
        floor, low, backbone = objective.normaliser_floor, objective.time_low, roles.student.backbone
        extra_losses.append(DecoupledGuidance(floor, low, roles.teachers, grid, rng, backbone))
    if objective.preservation:
        extra_losses.append(Preservation(objective.preservation, roles.teachers))
    return tuple(extra_losses)


@dataclass(frozen=True)
class FirstStepAnchor:
    """The first-step anchor (DP-DMD, arXiv 2602.03139), in every iteration of its tasks, whichever step is improved.

    It costs one more forward of the student, and K of the teachers.
    """

    plan: FirstStepAnchorPlan
    roles: Roles
    grid: SigmaGrid

    def __call__(self, given: LossInputs) -> tuple[Tensor, dict[str, Tensor]]:
        if given.batch.task not in self.plan.tasks:
            return given.x0_BND.new_zeros(()), {}
        student, teacher = (
            self.roles.student.bind(given.batch.cond, given.prefix),
            _bound(self.roles.teachers, given, 0),
        )
        loss, metrics = anchor_loss(student, teacher, given.rollout.states[0], self.grid, self.plan.teacher_steps)
        return self.plan.weight * loss, {"anchor_loss": loss.detach(), "anchor_target": metrics["target"]}


@dataclass(frozen=True)
class SegmentGuidance:
    """Intra-segment guidance at the step that is improved. The student's forward there is already computed."""

    plan: SegmentGuidancePlan
    teachers: Teachers
    grid: SigmaGrid

    def __call__(self, given: LossInputs) -> tuple[Tensor, dict[str, Tensor]]:
        teacher, z_BND = _bound(self.teachers, given, given.at.k), given.rollout.states[given.at.k]
        loss, metrics = segment_loss(given.v_BND, teacher, z_BND, self.grid, given.at.k, self.plan.teacher_steps)
        return self.plan.weight * loss, {"segment_loss": loss.detach(), "segment_target": metrics["target"]}


@dataclass(frozen=True)
class DecoupledGuidance:
    """Decoupled guidance (Decoupled DMD, arXiv 2511.22677), at noise and times of its own."""

    floor: float
    low: float
    teachers: Teachers
    grid: SigmaGrid
    rng: NamedRNG
    backbone: Backbone

    def __call__(self, given: LossInputs) -> tuple[Tensor, dict[str, Tensor]]:
        x0, samples = given.x0_BND.detach(), given.batch.samples
        i = given.at.iteration
        u_B = self.rng.uniform_per_sample(samples, "guidance time", i)
        told_B = self.backbone.told_times(guidance_times(u_B, self.grid[given.at.k], self.low))
        t_B = to_device(told_B, x0.device)
        eps_BND = to_device(self.rng.normal_per_sample(samples, x0.shape[1:], "guidance noise", i), x0.device)
        z_BND = path.noised(x0, eps_BND, t_B)
        added_BND, v_cond_BND = self.teachers.guidance_term(z_BND, t_B, given.batch, given.at, given.prefixes)
        loss, metrics = guidance_loss(given.x0_BND, z_BND, t_B, v_cond_BND, added_BND, self.floor)
        return loss, {"guidance_gradient": metrics["gradient"]}


@dataclass(frozen=True)
class Preservation:
    """What an edit leaves alone, at the step that is improved. The student's forward there is already computed."""

    weight: float
    teachers: Teachers

    def __call__(self, given: LossInputs) -> tuple[Tensor, dict[str, Tensor]]:
        if given.batch.task != "edit":
            return given.x0_BND.new_zeros(()), {}
        k, z_BND, t_B = given.at.k, given.rollout.states[given.at.k], given.rollout.time(given.at.k)
        v_real_BND = _bound(self.teachers, given, k)(z_BND, t_B)  # on every rank, whatever its layout: it may be split
        source_BND = source_latents(given.batch.cond)
        if source_BND is None:
            return given.x0_BND.new_zeros(()), {"preservation_outside": given.x0_BND.new_zeros(())}
        loss, metrics = preservation_loss(given.v_BND, v_real_BND, z_BND, t_B, source_BND)
        return self.weight * loss, {"preservation_loss": loss.detach(), "preservation_outside": metrics["outside"]}


def source_latents(cond: Conditioning) -> Tensor | None:
    """The clean latents of the picture that an edit changes, BND: its last reference. None where that has another
    shape than the answer, so that tokens cannot be compared."""
    layout = cond.layout
    if cond.references_BRD is None or layout.references[-1] != layout.target:
        return None
    return cond.references_BRD[:, -layout.target_tokens :]


def _bound(teachers: Teachers, given: LossInputs, k: int) -> Velocity:
    """The velocity of the teachers, mixed as the plan does at student step k."""

    @torch.no_grad()
    def velocity(z_BND: Tensor, t_B: Tensor) -> Tensor:
        return teachers.velocity(z_BND, t_B, given.batch, StepIndex(given.at.iteration, k), given.prefixes)

    return velocity
