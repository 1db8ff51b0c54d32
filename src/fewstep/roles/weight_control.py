"""How far each specialised teacher is trusted: the share of its planned weights that it has now.

Numbers of the host, changed between iterations only, from figures that the loop reads anyway. They decide which
teachers run, so they are part of a checkpoint.
"""

from collections.abc import Mapping, Sequence

from fewstep.roles.plan import AdaptivePlan


class TeacherWeightControl:
    """Shares in (0, 1] by teacher. Without `adaptive` they stay at 1 until halved.

    The adaptive rule is a trust region's: the pull (see objective/mismatch.py) is what a teacher asks for over what
    the student has followed so far. Within the bound the share grows by a little, above it shrinks by more; it settles
    where the bound is passed in log(raise_by) / (log(raise_by) - log(lower_by)) of the measurements (a sixth, by
    default), or at 1.
    """

    def __init__(self, names: Sequence[str], adaptive: AdaptivePlan | None = None):
        self.adaptive = adaptive
        self.shares = dict.fromkeys(names, adaptive.start if adaptive else 1.0)

    def adapt(self, name: str, pull: float) -> None:
        """After a measurement of teacher `name`."""
        if self.adaptive is not None:
            by = self.adaptive.raise_by if pull <= self.adaptive.bound else self.adaptive.lower_by
            self.shares[name] = min(1.0, max(self.adaptive.least, by * self.shares[name]))

    def halve(self, name: str) -> None:
        self.shares[name] /= 2

    def load(self, shares: Mapping[str, float]) -> None:
        """Take over the shares of a checkpoint; of teachers that only a fork of that run names, the usual ones stay."""
        self.shares |= {name: share for name, share in shares.items() if name in self.shares}
