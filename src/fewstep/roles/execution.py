"""How the networks of a run are executed: nothing here changes what they learn, beyond rounding."""

from dataclasses import dataclass

from fewstep.roles.recomputation import Recomputation
from fewstep.roles.sharding import REPLICATED, Placement


@dataclass(frozen=True)
class Execution:
    """
    Args:
        precision: of products: fp32, or bf16 by autocast over fp32 masters.
        gradient_checkpointing: which activations are computed again in backward.
        compile: whether blocks are compiled.
        placement: how the weights of base, copies and resident teachers lie on the ranks. Adapters are whole on each.
    """

    precision: str = "fp32"
    gradient_checkpointing: Recomputation = "off"
    compile: bool = False
    placement: Placement = REPLICATED
