"""Tensors of a shape, a dtype and a device, without data: what torch's FakeTensor is, at about a quarter of its time.

Operations run on an inner tensor of the meta device, which torch does in C++ for most of them. The tensor itself says
that it is on the CPU, so autocast and the choice of an attention kernel are those of a CPU. Storages are shared as they
would be: a view of a tensor has the storage of its inner tensor.

What an operation makes of given shapes is remembered, unless it returns one of its arguments or a view of one. FSDP2's
buffers, which are resized under their tensors, cannot be of this kind. Sharded networks keep torch's fake tensors.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode

LARGE = 2**16  # numbers; smaller tensors cost nothing, and positions and masks are read by the host
CPU, META = torch.device("cpu"), torch.device("meta")
_Form = tuple[torch.Size, tuple[int, ...], torch.dtype]

_made: dict[tuple[Any, ...], "_Form | list[_Form | None]"] = {}  # operation and shapes -> what it makes


class ShapeTensor(Tensor):
    """Stands for a tensor on the CPU. on_meta: a tensor of the meta device, whose storage says what it would take."""

    on_meta: Tensor
    form: _Form
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: Tensor, form: _Form | None = None) -> "ShapeTensor":
        """form: shape, strides and dtype of `inner`, if they are known."""
        shape, strides, dtype = form = form or _form(inner)
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, shape, strides=strides, storage_offset=inner.storage_offset(), dtype=dtype, device=CPU
        )
        made.on_meta, made.form = inner, form
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
        return _on_meta(func, args, kwargs or {})


@dataclass(frozen=True)
class ShapePlan:
    """A shape tensor and the size of its storage, to make others like it."""

    form: _Form
    offset: int
    bytes: int

    @classmethod
    def of(cls, tensor: ShapeTensor) -> "ShapePlan":
        return cls(tensor.form, int(tensor.storage_offset()), tensor.on_meta.untyped_storage().nbytes())

    def make(self) -> ShapeTensor:
        """A tensor with a storage of its own. No mode sees an operation."""
        shape, strides, dtype = self.form
        with torch._C._DisableTorchDispatch():  # type: ignore[attr-defined]
            whole = torch.empty(self.bytes, dtype=torch.uint8, device=META).view(dtype)
            return ShapeTensor(whole.as_strided(shape, strides, self.offset), self.form)


def run_on_shapes(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The result of an operation: shapes alone where an argument is. For a mode that sees every operation: it saves the
    second way through torch's dispatcher, to ShapeTensor.

    Large results of floats are shapes as well, also of real tensors. Some stock forwards fill a buffer of zeros with
    what they computed, and everything after it would be computed in earnest.
    """
    if _has_shape(args) or (kwargs and _has_shape(kwargs.values())):
        return _on_meta(func, args, kwargs)
    result = func(*args, **kwargs)
    if type(result) is Tensor and result.numel() > LARGE and result.is_floating_point() and _makes_its_own(func):
        return shape_of(result)
    return result


def _has_shape(values: Iterable[Any]) -> bool:
    for value in values:
        kind = type(value)
        if kind is ShapeTensor or ((kind is tuple or kind is list) and _has_shape(value)):
            return True
    return False


def _on_meta(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The result of an operation on shapes, and on real tensors beside them."""
    key = _key(func, args, kwargs) if _makes_its_own(func) else None
    if key is not None and (known := _made.get(key)) is not None:
        return _new(known)
    if func is torch.ops.aten.index.Tensor:
        args = args[0], places_of_masks(args[1])
    given: dict[int, Tensor] = {}
    named = {name: _inner_one(value, given) for name, value in kwargs.items()}
    result = func(*_inner(args, given), **named)
    if key is not None:
        _made[key] = [_form(each) for each in result] if isinstance(result, tuple) else _form(result)
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


class UncompiledMode(TorchDispatchMode):
    """A mode under which nothing is compiled. torch guards others against that, which takes time at every operation."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


def _unless_real(value: Any) -> Any:
    return shape_of(value) if isinstance(value, FakeTensor) else value


def leaves_of(value: Any) -> list[Any]:
    """What stands in an operation's arguments or results, out of lists, tuples and dictionaries in order: torch's own
    `tree_leaves`, which knows more kinds of containers, takes a fifth of a rehearsal."""
    found: list[Any] = []
    _gather_leaves(value, found)
    return found


def places_of_masks(indices: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Indices with real boolean masks as places. How many elements a mask selects is known from its values; shapes
    alone would not tell the result's shape."""
    places: list[Tensor | None] = []
    for index in indices:
        real_mask = index is not None and index.dtype == torch.bool and not isinstance(index, FakeTensor | ShapeTensor)
        places += list(index.nonzero(as_tuple=True)) if index is not None and real_mask else [index]
    return places


def _gather_leaves(value: Any, found: list[Any]) -> None:
    kind = type(value)
    if kind is tuple or kind is list:
        for each in value:
            _gather_leaves(each, found)
    elif kind is dict:
        for each in value.values():
            _gather_leaves(each, found)
    else:
        found.append(value)


def _inner(values: Any, given: dict[int, Tensor]) -> list[Any]:
    """The same with tensors of the meta device. given: takes what each of them stands in for, by its id."""
    return [_inner_one(value, given) for value in values]


def _inner_one(value: Any, given: dict[int, Tensor]) -> Any:
    kind = type(value)
    if kind is ShapeTensor:
        own = value.on_meta
    elif kind is int or kind is float or value is None:
        return value
    elif kind is tuple or kind is list:
        return kind(_inner(value, given))
    elif isinstance(value, Tensor):  # a real one; numbers keep their device, as in torch's own promotion
        own = value.to(META) if value.dim() else value
    else:
        return META if kind is torch.device else value
    given[id(own)] = value
    return own


def _outer(value: Any, given: dict[int, Tensor]) -> Any:
    if not isinstance(value, Tensor):
        return value
    return given[id(value)] if id(value) in given else ShapeTensor(value)


def _form(value: Tensor | None) -> Any:
    return None if value is None else (value.shape, value.stride(), value.dtype)


def _new(made: Any) -> Any:
    if type(made) is list:
        return tuple(None if form is None else _new(form) for form in made)
    shape, stride, dtype = made
    return ShapeTensor(torch.empty_strided(shape, stride, dtype=dtype, device=META), made)


def _key(func: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
    """What the result of an operation follows from; None if that cannot be hashed."""
    told: list[Any] = [id(func)]  # operations are never freed
    _tell(args, told)
    for name, value in kwargs.items():
        told.append(name)
        _tell((value,), told)
    key = tuple(told)
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _tell(values: Any, told: list[Any]) -> None:
    for value in values:
        kind = type(value)
        if kind is ShapeTensor:
            told.append(value.form)
        elif kind is tuple or kind is list:
            told.append(len(value))
            _tell(value, told)
        elif isinstance(value, Tensor):
            told.append(_form(value))
        else:
            told.append(kind)  # 1, 1.0 and True are equal, and make other dtypes
            told.append(value)


@cache
def _makes_its_own(func: Any) -> bool:
    """Whether an operation returns new tensors alone, whatever it is given."""
    schema = func._schema
    tensors = all(str(each.type) in ("Tensor", "Optional[Tensor]") for each in schema.returns)
    shares = any(each.alias_info is not None for each in (*schema.arguments, *schema.returns))
    return bool(schema.returns) and tensors and not shares and func.name() not in _MAY_SHARE


# Their schemas promise a new tensor. The first returns a view all the same; the second selects by values.
_MAY_SHARE = {"aten::_unsafe_view", "aten::index.Tensor"}
