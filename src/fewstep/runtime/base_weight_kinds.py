"""The names of the ways in which the weights of a frozen base are held (`run.base_weights`)."""

from typing import Literal

# precision: in that of the run. int8: the linear layers of the blocks in a byte a weight, for memory. W8A8: so, and
# products of many rows in these numbers too, for time.
BaseWeights = Literal["precision", "int8", "int8-w8a8", "fp8-w8a8"]
