"""fp32 master weights that compute as the bf16 base does.

Under autocast a linear layer casts its weights to bf16. Norms and other layers do not: with fp32 weights their results
are fp32, and attention goes on with other numbers than over a base that is stored in bf16. A full copy that equals the
base answered 0.7 to 1.0 % beside it, and that was a floor under the gap between critic and teacher. So under autocast
the other layers see their weights in autocast's dtype too. The masters stay fp32, and get the gradient.
"""

from functools import cache
from typing import Any

import torch
from torch import nn


def compute_as_stored(transformer: nn.Module) -> None:
    """Lets every layer whose weights autocast would leave as they are see them in autocast's dtype, in place.

    Names, state and optimizers see the fp32 weights as before.
    """
    for module in transformer.modules():
        if module._parameters and not isinstance(module, nn.Linear):
            kind: Any = type(module)
            module.__class__ = _cast_class(kind)


@cache
def _cast_class(kind: type[nn.Module]) -> type[nn.Module]:
    """The class with weights that are cast when they are read. They are no attributes of their own in a module, so
    `__getattr__` is asked for them; state and optimizers reach them by another way."""

    def seen(self: Any, name: str) -> Any:
        value = kind.__getattr__(self, name)
        if isinstance(value, nn.Parameter) and torch.is_autocast_enabled(value.device.type):
            return value.to(torch.get_autocast_dtype(value.device.type))
        return value

    return type(kind.__name__, (kind,), {"__getattr__": seen, "__module__": kind.__module__})
