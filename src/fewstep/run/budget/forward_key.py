"""Describes a module and what it is called with, as far as the operations of its forward follow from it.

Two calls of equal descriptions run the same operations on tensors of the same shapes. Tensors are described by shape,
strides and dtype; real ones of integers and truth values by their values too, since indices and masks decide shapes.
What is of a kind that is not named here has no description.
"""

import types
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.backbones.shape_tensor import ShapeTensor

_PLAIN = (int, float, complex, str, bytes, type(None), type, torch.dtype, torch.device, torch.layout, Enum)
_UNREAD = (  # by a forward without gradient
    "_parameters", "_buffers", "_modules",  # described on their own
    "_is_full_backward_hook", "_backward_hooks", "_backward_pre_hooks",
    "_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
    "kwargs",  # of peft's layers: what they were made with, their name among it
    "_active_adapter",  # of peft's layers, and one for all: described once by who asks
)  # fmt: skip


class Indescribable(Exception):
    """A value is of a kind of which nothing is known."""


class Description:
    """Collects a description.

    Args of an instance:
        told: what was described, hashable, in order.
        tensors: the tensors that were met, in order. Which they are is not in the description.
        objects: what was described by its attributes and is no module, in order: caches of keys and values.
    """

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.tensors: list[Tensor] = []
        self.objects: list[Any] = []

    def add(self, value: Any) -> None:
        """Raises: Indescribable."""
        kind = type(value)
        if isinstance(value, Tensor):
            self.told.append(_tensor(value))
            self.tensors.append(value)
        elif isinstance(value, _PLAIN):
            self.told += kind, value
        elif kind is slice:
            self._all(kind, (value.start, value.stop, value.step))
        elif isinstance(value, list | tuple):
            self._all(kind, value)
        elif isinstance(value, set | frozenset):
            self._all(kind, sorted(value, key=repr))
        elif isinstance(value, Mapping):
            self._all(kind, (each for pair in value.items() for each in pair))
        elif _follows_from_its_code(value):
            self.told.append(value)
        elif isinstance(value, nn.Module):
            self.add_module(value)
        elif hasattr(value, "__dict__") and not isinstance(value, types.FunctionType | types.MethodType):
            self.objects.append(value)
            self._all(kind, (each for pair in vars(value).items() for each in pair))
        else:
            raise Indescribable(str(kind))

    def add_module(self, module: nn.Module, outermost: bool = False) -> None:
        """A module with all below it. outermost: its own hooks are left out, as they run outside its forward.

        Raises: Indescribable.
        """
        self.told.append(type(module))
        for name, held in (*module._parameters.items(), *module._buffers.items(), *vars(module).items()):
            if name in _UNREAD or (outermost and name.startswith("_forward_")):
                continue
            self.told.append(name)
            if name == "forward" and getattr(held, "__self__", None) is module:
                held = held.__func__
            self.add(held)
        for name, child in module._modules.items():
            self.told.append(name)
            if child is not None:
                self.add_module(child)
        self.told.append("end")

    def _all(self, kind: type, values: Iterable[Any]) -> None:
        self.told += kind, "("
        for each in values:
            self.add(each)
        self.told.append(")")


def _tensor(value: Tensor) -> tuple[Any, ...]:
    if type(value) is ShapeTensor:
        return value.form
    form = value.shape, value.stride(), value.dtype, value.device
    if value.device.type != "cpu" or value.dtype.is_floating_point or value.dtype.is_complex:
        return form
    return *form, value.detach().numpy().tobytes()


def _follows_from_its_code(value: Any) -> bool:
    return isinstance(value, types.BuiltinFunctionType) or (
        isinstance(value, types.FunctionType) and value.__closure__ is None
    )
