"""What a Python caller can add to a run beside its recipe."""

from collections.abc import Callable
from dataclasses import dataclass

from fewstep.flow.rng import NamedRNG
from fewstep.flow.sigmas import SigmaGrid
from fewstep.roles.roles import Roles
from fewstep.roles.student_eval import StudentEvalSetup
from fewstep.runtime.errors import PluginError
from fewstep.train.hooks import OnIteration
from fewstep.train.loss_inputs import ExtraLoss

ExtraLossBuilder = Callable[[Roles, SigmaGrid, NamedRNG], ExtraLoss]


@dataclass(frozen=True)
class Extensions:
    """
    Args:
        examiner: makes the run's examiner, in place of an embedded world's own.
        extra_losses: each makes one more term of the student's loss, from the run's roles, its grid and its named
            random draws. Their names are written into the run's environment record.
        on_iteration: gets the figures of each iteration, and may stop the run.
    """

    examiner: StudentEvalSetup | None = None
    extra_losses: tuple[ExtraLossBuilder, ...] = ()
    on_iteration: OnIteration | None = None

    def __post_init__(self) -> None:
        given: dict[str, object] = {"examiner": self.examiner, "on_iteration": self.on_iteration}
        given |= {f"extra_losses[{i}]": build for i, build in enumerate(self.extra_losses)}
        for what, thing in given.items():
            if thing is not None and not callable(thing):
                raise PluginError(f"{what} is {thing!r:.60}, which cannot be called; see docs/extending.md")

    def names(self) -> list[str]:
        """The names of the added terms of the loss, as in the environment record."""
        named = [build if hasattr(build, "__qualname__") else type(build) for build in self.extra_losses]
        return [f"{each.__module__}.{each.__qualname__}" for each in named]


NO_EXTENSIONS = Extensions()
