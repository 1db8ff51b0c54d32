"""How far each specialised teacher is trusted: the share of its planned weights that it has now.

The shares are Python floats. They change between iterations only, by figures that the loop reads anyway. They decide
which teachers run, so they are part of a checkpoint.
"""

from collections.abc import Mapping, Sequence

from fewstep.roles.plan import AdaptivePlan


class TeacherWeightControl:
    """Shares in (0, 1] by teacher. Without `adaptive` they stay at 1 until they are halved.

    The adaptive rule is that of a trust region (ours). The pull (`objective/mismatch.py`) is what a teacher asks for,
    over what the student has followed so far. While the pull is within the bound the share grows a little; above the
    bound it shrinks by more. The share settles where the pull is above the bound in a fraction
    log(raise_by) / (log(raise_by) - log(lower_by)) of the measurements (by default a sixth), or at 1.
    """

    def __init__(self, names: Sequence[str], adaptive: AdaptivePlan | None = None):
        self.adaptive = adaptive
        self.shares = dict.fromkeys(names, adaptive.start if adaptive else 1.0)

    def adapt(self, name: str, pull: float) -> None:
        """Changes the share of teacher `name` after a measurement of its pull."""
        # share <- clip(share x raise_by or x lower_by, least, 1)    [ours]
        if self.adaptive is not None:
            by = self.adaptive.raise_by if pull <= self.adaptive.bound else self.adaptive.lower_by
            self.shares[name] = min(1.0, max(self.adaptive.least, by * self.shares[name]))

    def halve(self, name: str) -> None:
        self.shares[name] /= 2

    def load(self, shares: Mapping[str, float]) -> None:
        """Takes over the shares of a checkpoint. Teachers that are not in it keep their default shares: a fork of a run
        may name more of them."""
        self.shares |= {name: share for name, share in shares.items() if name in self.shares}
