"""The networks of a run: the student, the critic that learns its distribution, and the teachers."""

from dataclasses import dataclass

from fewstep.roles.network import Network
from fewstep.roles.teachers import Teachers


@dataclass(frozen=True)
class Roles:
    """The networks of a run.

    Student and critic begin as the base exactly: with an adapter whose B is 0, or as a copy. With `student.init_from`
    in the recipe the student begins as the base with that LoRA.
    """

    student: Network
    critic: Network
    teachers: Teachers

    @property
    def networks(self) -> tuple[Network, ...]:
        """All networks, teachers last."""
        return self.student, self.critic, *(teacher.network for teacher in self.teachers.teachers.values())

    @property
    def is_sharded(self) -> bool:
        """Whether some network is sharded. Then all ranks must run a network together, even where only one needs the
        result."""
        return any(network.is_sharded for network in self.networks)
