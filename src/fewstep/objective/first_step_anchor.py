"""First-step anchor, as DP-DMD (arXiv 2602.03139) has it: the first step belongs to a regression, not to matching.

From the noise eps at t = 1 the teacher walks K small steps down to the student's second noise level; the velocity that
leads there at once, (eps - z) / (1 - t), is the target of the student's first step. Distribution matching is reverse KL
and drops modes; a regression on the teacher's own walk does not, so it keeps what the first step decides - layout and
diversity. The paper of this project tried it: structure steadies, visual quality falls.

Detached after the first step: matching improves the other steps alone, and no gradient of theirs reaches the first.
"""

from torch import Tensor

from fewstep.flow.sigmas import SigmaGrid
from fewstep.flow.solver import Velocity
from fewstep.objective.segment_guidance import segment_loss


def anchor_loss(
    student: Velocity, teacher: Velocity, eps_BND: Tensor, grid: SigmaGrid, teacher_steps: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """mean |student(eps, 1) - teacher's mean velocity over the first segment|^2, one student forward with gradient."""
    t_B = eps_BND.new_full((len(eps_BND),), grid[0])
    return segment_loss(student(eps_BND, t_B), teacher, eps_BND, grid, 0, teacher_steps)
