"""Who takes part in a run: the student, the critic that follows it, and the teachers that both are compared with."""

from dataclasses import dataclass

from fewstep.roles.network import Network
from fewstep.roles.teachers import Teachers


@dataclass(frozen=True)
class Roles:
    """The networks of a run. Student and critic begin as the base exactly: an adapter with B = 0, or a copy. The
    student of a recipe with `init_from` begins as the base with that LoRA."""

    student: Network
    critic: Network
    teachers: Teachers

    @property
    def networks(self) -> tuple[Network, ...]:
        """All of them, teachers last."""
        return self.student, self.critic, *(teacher.network for teacher in self.teachers.teachers.values())

    @property
    def is_sharded(self) -> bool:
        """Whether all ranks must run together whatever one of them looks at."""
        return any(network.is_sharded for network in self.networks)
