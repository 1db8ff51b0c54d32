"""Keys that are for a base which only adapters share, or for weights that lie whole on each GPU, and what does not go
together with them."""

from typing import Protocol

from fewstep.roles.plan import RolePlan, TeachersSpec
from fewstep.train.plan import RunPlan


class NetworkKeys(Protocol):
    """The sections of a recipe that say how its networks are held."""

    @property
    def run(self) -> RunPlan: ...
    @property
    def student(self) -> RolePlan: ...
    @property
    def critic(self) -> RolePlan: ...
    @property
    def teachers(self) -> TeachersSpec: ...


def refuse_learning_base(recipe: NetworkKeys) -> None:
    """Refuses a rounded base, or one with blocks in host memory, beside a role that learns a copy of all weights.

    Raises:
        ValueError: there is such a role; or rounded weights, or a swapped teacher, that would have to be sharded.
    """
    run = recipe.run
    full = [role for role, plan in (("student", recipe.student), ("critic", recipe.critic)) if plan.mode == "full"]
    if (held := run.base_weights) != "precision":
        if full:
            raise ValueError(
                f"run.base_weights: {held} is for a base that only adapters share, and {full[0]}.mode is full. "
                f"Set {full[0]}.mode: adapter, or run.base_weights: precision"
            )
        if run.sharding != "off":
            raise ValueError(
                f"run.base_weights: {held} is for weights that lie whole on each GPU, and run.sharding is "
                f"{run.sharding}. Set one of the two back: run.sharding: off, or run.base_weights: precision"
            )
    if run.blocks_to_swap and full:
        raise ValueError(
            f"run.blocks_to_swap is {run.blocks_to_swap}, which is for a base that only adapters share, and "
            f"{full[0]}.mode is full: weights that learn stay on the device. Set {full[0]}.mode: adapter, or "
            "run.blocks_to_swap: 0"
        )
    swapped = [name for name, teacher in recipe.teachers.named.items() if teacher.place == "swapped"]
    for name in swapped:
        if run.compile:
            raise ValueError(
                f"teachers.named.{name}.place: swapped, and run.compile is true: compiled blocks cannot fetch their "
                "weights. Set run.compile: false, or place: resident"
            )
        if run.sharding != "off":
            raise ValueError(
                f"teachers.named.{name}.place: swapped is for weights that lie whole on each GPU, and run.sharding is "
                f"{run.sharding}. Set place: resident, whose weights are split over the GPUs, or run.sharding: off"
            )
