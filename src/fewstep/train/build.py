"""From roles and settings to the step that the trainer repeats."""

from fewstep.flow.rng import NamedRNG
from fewstep.roles.roles import Roles
from fewstep.runtime.parallel import SINGLE_RANK, Ranks
from fewstep.train.diagnostics import TeacherDiagnostics
from fewstep.train.dmd_step import DMDStep
from fewstep.train.draws import Draws
from fewstep.train.ema import EMA
from fewstep.train.extra_losses import build_extra_losses
from fewstep.train.loss_inputs import ExtraLoss
from fewstep.train.monitor import StepTimer
from fewstep.train.optimizers import Optimizers
from fewstep.train.role_optimizer import RoleOptimizer
from fewstep.train.settings import DMDSettings
from fewstep.train.student_rollout import StudentRollouts


def build_dmd_step(
    roles: Roles,
    settings: DMDSettings,
    rng: NamedRNG,
    ranks: Ranks = SINGLE_RANK,
    *,
    timer: StepTimer | None = None,
    extra_losses: tuple[ExtraLoss, ...] = (),
) -> DMDStep:
    """The step over these networks, with fresh optimizers and a moving average that begins at the student.

    Args:
        rng: makes every random draw of the run.
        timer: counts seconds by part of an iteration; by default one for the student's device.
        extra_losses: further terms of the student's loss, beside those that the objective switches on.
    """
    backbone, grid = roles.student.backbone, settings.student.grid
    return DMDStep(
        roles,
        settings,
        StudentRollouts(roles.student, settings, Draws(rng, settings.objective, backbone)),
        Optimizers(
            RoleOptimizer(roles.student, settings.student, ranks),
            RoleOptimizer(roles.critic, settings.critic, ranks),
            EMA(roles.student, settings.student.ema, settings.student.ema_warmup),
        ),
        timer or StepTimer(backbone.device),
        TeacherDiagnostics(settings.watch),
        (*build_extra_losses(settings.objective, roles, grid, rng), *extra_losses),
    )
