"""The compiled forward of a transformer block, in two forms: as it is, and with recomputation chosen by operation.

The choice is part of what is compiled: torch traces the checkpointed call whole, marks the operations that its policy
keeps, and the partitioner cuts the backward pass at them. Around compiled code the choice could not be made: a compiled
block has no single operations any more.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Forward = Callable[..., Any]


class CompiledForward:
    """Stands in the place of a block's `forward`, under the block's hooks.

    Args:
        plain: the compiled forward.
        selective: the compiled forward that computes again what is cheap.
    """

    def __init__(self, plain: Forward, selective: Forward):
        self._plain, self._selective = plain, selective
        self._chosen = plain

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self._chosen(*given, **named)

    @contextmanager
    def selectively(self) -> Iterator[None]:
        """Inside, the selective form runs."""
        self._chosen = self._selective
        try:
            yield
        finally:
            self._chosen = self._plain
