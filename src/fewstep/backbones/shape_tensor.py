"""Tensors of a shape, a dtype and a device, without data: what torch's FakeTensor is, at about a quarter of its time.

Operations run on an inner tensor of the meta device, which torch does in C++ for most of them. The tensor itself says
that it is on the CPU, so autocast and the choice of an attention kernel are those of a CPU. Storages are shared as they
would be: a view of a tensor has the storage of its inner tensor.

What an operation makes of given shapes is remembered, unless it returns one of its arguments or a view of one. FSDP2's
buffers, which are resized under their tensors, cannot be of this kind. Sharded networks keep torch's fake tensors.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten

LARGE = 2**16  # numbers; smaller tensors cost nothing, and positions and masks are read by the host
CPU, META = torch.device("cpu"), torch.device("meta")
_Form = tuple[torch.Size, tuple[int, ...], torch.dtype]

_made: dict[tuple[Any, ...], _Form | list[_Form | None]] = {}  # operation and shapes -> what it makes


class ShapeTensor(Tensor):
    """Stands for a tensor on the CPU. on_meta: a tensor of the meta device, whose storage says what it would take."""

    on_meta: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: Tensor) -> "ShapeTensor":
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=CPU,
        )
        made.on_meta = inner
        return made  # type: ignore[no-any-return]

    @property  # type: ignore[override]
    def data(self) -> "ShapeTensor":
        """Another tensor of the same storage; what is assigned replaces the storage."""
        return ShapeTensor(self.on_meta)

    @data.setter
    def data(self, other: "ShapeTensor") -> None:
        self.on_meta = other.on_meta

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        flat, structure = tree_flatten((args, kwargs or {}))
        key = _key(func, flat)
        if key is not None and key in _made:
            return _new(_made[key])
        inner = [_inner(value) for value in flat]
        inner_args, inner_kwargs = tree_unflatten(inner, structure)
        result = func(*inner_args, **inner_kwargs)
        if key is not None:
            _made[key] = [_form(each) for each in result] if isinstance(result, tuple) else _form(result)
        given = {id(own): value for own, value in zip(inner, flat, strict=True) if isinstance(value, Tensor)}
        if isinstance(result, tuple | list):
            return type(result)(_outer(value, given) for value in result)
        return _outer(result, given)


def make_shapes(transformer: nn.Module) -> None:
    """Makes parameters shapes alone, real ones too (those of adapters that were added), and every fake tensor: buffers,
    and what modules keep as plain attributes or in lists."""
    for module in transformer.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and not isinstance(parameter, ShapeTensor):
                module._parameters[name] = nn.Parameter(shape_of(parameter), requires_grad=parameter.requires_grad)
        for name, buffer in module._buffers.items():
            module._buffers[name] = _unless_real(buffer)
        for name, value in list(vars(module).items()):
            if isinstance(value, FakeTensor):
                setattr(module, name, shape_of(value))
            elif isinstance(value, list | tuple) and any(isinstance(entry, FakeTensor) for entry in value):
                setattr(module, name, type(value)(map(_unless_real, value)))


def has_shapes(transformer: nn.Module) -> bool:
    """Whether its weights are shapes alone."""
    return any(isinstance(parameter, ShapeTensor) for parameter in transformer.parameters())


def shape_of(value: Tensor) -> ShapeTensor:
    """What stands for a tensor, with a storage of its own."""
    return ShapeTensor(torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=META))


class LargeAsShapes(TorchDispatchMode):
    """While it is entered, large results of floats are shapes alone, also of real tensors. Some stock forwards fill a
    buffer of zeros with what they computed, and everything after it would be computed in earnest."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if type(result) is Tensor and result.numel() > LARGE and result.is_floating_point() and _makes_its_own(func):
            return shape_of(result)
        return result


def _unless_real(value: Any) -> Any:
    return shape_of(value) if isinstance(value, FakeTensor) else value


def _inner(value: Any) -> Any:
    if isinstance(value, ShapeTensor):
        return value.on_meta
    if isinstance(value, Tensor) and value.dim():  # a real one; numbers keep their device, as in torch's own promotion
        return value.to(META)
    return META if isinstance(value, torch.device) else value


def _outer(value: Any, given: dict[int, Tensor]) -> Any:
    if not isinstance(value, Tensor):
        return value
    return given[id(value)] if id(value) in given else ShapeTensor(value)


def _form(value: Tensor | None) -> Any:
    return None if value is None else (value.shape, value.stride(), value.dtype)


def _new(made: Any) -> Any:
    if isinstance(made, list):
        return tuple(None if form is None else _new(form) for form in made)
    shape, stride, dtype = made
    return ShapeTensor(torch.empty_strided(shape, stride, dtype=dtype, device=META))


def _key(func: Any, flat: list[Any]) -> tuple[Any, ...] | None:
    """What the result of an operation follows from; None if it may share memory with an argument."""
    if not _makes_its_own(func):
        return None
    told = [func]
    for value in flat:
        told += _form(value) if isinstance(value, Tensor) else (type(value), value)
    key = tuple(told)
    try:
        hash(key)
    except TypeError:
        return None
    return key


@cache
def _makes_its_own(func: Any) -> bool:
    """Whether an operation returns new tensors alone, whatever it is given."""
    schema = func._schema
    tensors = all(str(each.type) in ("Tensor", "Optional[Tensor]") for each in schema.returns)
    shares = any(each.alias_info is not None for each in (*schema.arguments, *schema.returns))
    return bool(schema.returns) and tensors and not shares and func.name() not in _MAY_SHARE


# Their schemas promise a new tensor. The first returns a view all the same; the second selects by values.
_MAY_SHARE = {"aten::_unsafe_view", "aten::index.Tensor"}
