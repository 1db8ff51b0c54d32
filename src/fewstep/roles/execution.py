"""How the networks of a run are executed. Nothing here changes what they learn, apart from rounding."""

from dataclasses import dataclass

from fewstep.roles.recomputation import Recomputation
from fewstep.roles.sharding import REPLICATED, Placement


@dataclass(frozen=True)
class Execution:
    """
    Args:
        precision: of matrix products: fp32, or bf16 by autocast over fp32 master weights.
        gradient_checkpointing: which activations are computed again in the backward pass.
        compile: whether transformer blocks are compiled.
        placement: how the weights of the base, of full copies and of resident teachers are placed on the ranks.
            Adapters are always replicated.
    """

    precision: str = "fp32"
    gradient_checkpointing: Recomputation = "off"
    compile: bool = False
    placement: Placement = REPLICATED
