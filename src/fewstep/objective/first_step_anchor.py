"""First-step anchor of DP-DMD (arXiv 2602.03139): the first step learns by regression, not by distribution matching.

From the noise eps at t = 1 the teacher takes K small steps down to the student's second noise level t, and arrives at
z. The velocity that leads there in one step, (eps - z) / (1 - t), is the target of the student's first step.

Distribution matching minimises a reverse KL, which drops modes. A regression on the teacher's own trajectory does not.
So the anchor keeps what the first step decides, which is layout and diversity. The paper of this project tried it:
structure becomes steadier, and visual quality falls.

With `detach` the other steps alone learn by matching, and no gradient of theirs reaches the first step.
"""

from torch import Tensor

from fewstep.flow.sigmas import SigmaGrid
from fewstep.flow.solver import Velocity
from fewstep.objective.segment_guidance import segment_loss


def anchor_loss(
    student: Velocity, teacher: Velocity, eps_BND: Tensor, grid: SigmaGrid, teacher_steps: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """The regression loss of the first step: one student forward with gradient, `teacher_steps` teacher forwards.

    Returns:
        The loss, a scalar in fp32; and the mean square of its target, under "target".
    """
    # L = E |v_theta(eps, 1) - (eps - z_t) / (1 - t)|^2, z_t the teacher's state at the second level    [DP-DMD]
    t_B = eps_BND.new_full((len(eps_BND),), grid[0])
    return segment_loss(student(eps_BND, t_B), teacher, eps_BND, grid, 0, teacher_steps)
