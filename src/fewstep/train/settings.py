"""The recipe's sections that one iteration reads."""

from dataclasses import dataclass

from fewstep.objective.plan import ObjectivePlan
from fewstep.roles.plan import CriticPlan, StudentPlan, WatchPlan

DEFAULT_WATCH = WatchPlan.model_validate({})


@dataclass(frozen=True)
class DMDSettings:
    """How student and critic learn, the loss, and what is measured of the teachers."""

    student: StudentPlan
    critic: CriticPlan
    objective: ObjectivePlan
    watch: WatchPlan = DEFAULT_WATCH
