"""Tensors of shapes alone against real ones: the same shapes, dtypes, strides and shared storages."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from fewstep.backbones.shape_tensor import (
    LARGE,
    ShapeTensor,
    UncompiledMode,
    has_shapes,
    make_shapes,
    run_on_shapes,
    shape_of,
)

OPERATIONS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "product": lambda a, b: a @ b.mT,
    "sum with a number": lambda a, b: a + 2 * b + 0.5,
    "other dtype": lambda a, b: a.to(torch.bfloat16) * b,
    "norm": lambda a, b: torch.layer_norm(a, (8,)),
    "split": lambda a, b: torch.cat(a.split(4, -1), 1),
    "selected": lambda a, b: a[:, 1:, ::2].contiguous(),
    "one more axis": lambda a, b: (a[:, None] * b[:, :, None]).sum(1),
    "attention": lambda a, b: scaled_dot_product_attention(a[:, None], b[:, None], b[:, None]),
    "selected by a real mask": lambda a, b: a[:, torch.tensor([True, False, True])],
    "of a list": lambda a, b: torch.stack([a, b], dim=1),
    "in place": lambda a, b: a.clone().mul_(b),
}


class OnShapes(UncompiledMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run_on_shapes(func, args, kwargs or {})


def both() -> tuple[Tensor, Tensor, ShapeTensor, ShapeTensor]:
    a, b = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    return a, b, shape_of(a), shape_of(b)


def storage_of(tensor: Tensor) -> int:
    assert isinstance(tensor, ShapeTensor)
    return tensor.on_meta.untyped_storage()._cdata


def form(tensor: Tensor) -> tuple[Any, ...]:
    return tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_makes_what_it_makes_of_real_tensors(name: str) -> None:
    a, b, unreal_a, unreal_b = both()
    for _ in range(2):  # the second time from memory
        made = OPERATIONS[name](unreal_a, unreal_b)
        assert isinstance(made, ShapeTensor)
        assert form(made) == form(OPERATIONS[name](a, b))


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_mode_makes_the_same_without_a_second_dispatch(name: str) -> None:
    a, b, unreal_a, unreal_b = both()
    for _ in range(2):  # the second time from memory
        with OnShapes():
            made = OPERATIONS[name](unreal_a, unreal_b)
        assert isinstance(made, ShapeTensor)
        assert form(made) == form(OPERATIONS[name](a, b))


def test_equal_numbers_of_other_types_are_other_operations() -> None:
    whole = shape_of(torch.zeros(3, dtype=torch.int64))
    assert [(whole * number).dtype for number in (2, 2.0, 2)] == [torch.int64, torch.float32, torch.int64]


def test_views_share_their_storage_and_results_do_not() -> None:
    _, _, a, b = both()
    storage = storage_of(a)
    for view in (a[0], a.mT, a.reshape(6, 8), a.unflatten(-1, (2, 4)), a.detach()):
        assert storage_of(view) == storage
    assert storage_of(a + b) != storage
    assert a.mul_(b) is a


def test_gradients_have_the_forms_of_real_ones_under_autocast() -> None:
    def gradients(of: Callable[[Tensor], Tensor]) -> list[tuple[Any, ...]]:
        layer = nn.Linear(8, 4)
        for name, parameter in layer.named_parameters():
            setattr(layer, name, nn.Parameter(of(parameter.detach())))
        with torch.autocast("cpu", torch.bfloat16):
            made = layer(of(torch.zeros(2, 8)))
        assert made.dtype == torch.bfloat16
        made.float().sum().backward()
        return [form(parameter.grad) for parameter in layer.parameters() if parameter.grad is not None]

    assert gradients(shape_of) == gradients(lambda tensor: tensor)
    assert len(gradients(shape_of)) == 2


def test_what_is_assigned_as_data_brings_its_storage() -> None:
    b = both()[3]
    layer = nn.Linear(8, 8)
    make_shapes(layer)
    assert has_shapes(layer)
    layer.weight.data = b
    assert storage_of(layer.weight) == storage_of(b)


def test_large_floats_become_shapes_and_what_the_host_reads_stays() -> None:
    with OnShapes():
        large, small = torch.zeros(LARGE + 1), torch.zeros(8)
        whole = torch.arange(LARGE + 1)
        filled = large.copy_(torch.ones(LARGE + 1))
    assert isinstance(large, ShapeTensor)
    assert filled is large
    assert type(small) is type(whole) is Tensor
    assert int(whole[-1]) == LARGE
