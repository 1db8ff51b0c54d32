"""Forwards that are noted instead of run: what a rehearsal counts with them is what it counts when it runs them all."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from fewstep.backbones.fake_model import fake_model
from fewstep.backbones.shape_tensor import make_shapes, run_on_shapes, shape_of
from fewstep.roles.build import FILE_LOADERS
from fewstep.run.budget.op_counter import OpCounter
from fewstep.run.budget.rehearsal import RehearsalResult, rehearse
from fewstep.run.budget.repeated_forwards import RepeatedForwards
from fewstep.run.budget.zero_batch import zero_batch
from fewstep.run.recipe import Recipe
from fewstep.runtime.device import PRECISIONS
from tests.run.budget.test_rehearsal import MAKERS, batch_shape, recipe, size

PARTS = 2
SLOW = pytest.mark.slow  # as in test_rehearsal; one mode of each family stays
FAMILIES = [(family, task) for family in MAKERS for task in ("t2i", "edit") if (family, task) != ("z-image", "edit")]
CASES = [
    pytest.param(family, task, how, marks=() if (task, how) == ("t2i", "full") else SLOW)
    for family, task in FAMILIES
    for how in ("off", "selective", "full")
]


def rehearsed(plan: Recipe, family: str, task: Any, noting: bool) -> RehearsalResult:
    dtype = PRECISIONS[plan.run.precision]
    backbone: Any = fake_model(size(family), None, dtype)
    make_shapes(backbone.transformer)
    batch = zero_batch(batch_shape(family, task, 8), PARTS, backbone.latent_channels, ("",), dtype)
    return rehearse(backbone, plan, batch, FILE_LOADERS, PARTS, noting=noting)


@pytest.mark.parametrize(("family", "task", "how"), CASES)
def test_an_iteration_counts_as_if_all_were_run(family: str, task: Any, how: str) -> None:
    plan = recipe("run.precision=bf16", f"run.gradient_checkpointing={how}", f"run.gradient_accumulation={PARTS}")
    noted, run = (rehearsed(plan, family, task, noting) for noting in (True, False))
    assert noted.calls == run.calls
    assert noted.phases == run.phases


class Block(nn.Module):
    """Counts how often it is run."""

    runs: ClassVar[list[int]] = []  # of the class, so that blocks stay alike

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor, **more: Any) -> Tensor:
        self.runs.append(1)
        return self.linear(x).relu() + x


class Keeping(Block):
    def forward(self, x: Tensor, **more: Any) -> Tensor:
        self.kept = super().forward(x)
        return self.kept * 2


class Selecting(Block):
    def forward(self, x: Tensor, **more: Any) -> Tensor:
        return super().forward(x[more["mask"]])


class Cache:
    def __init__(self) -> None:
        self.key: Tensor | None = None


class Filling(Block):
    def forward(self, x: Tensor, **more: Any) -> Tensor:
        more["cache"].key = x * 3
        return super().forward(x)


def counted(kind: type[Block], noting: bool, arguments: Callable[[int], dict[str, Any]]) -> tuple[Any, int, list[Any]]:
    """Three blocks of a kind, one after another. What was counted, how many were run, and the shapes they returned."""
    kind = type(kind.__name__, (kind,), {})  # which no test before has counted
    held, counter = nn.ModuleList(kind() for _ in range(3)), OpCounter(run_on_shapes)
    make_shapes(held)
    Block.runs.clear()
    if noting:
        RepeatedForwards(counter).install(held, lambda: None)
    x, returned = shape_of(torch.empty(4, 8)), []
    counter.note([*held.parameters(), x], "there before")
    with torch.no_grad(), counter, counter.part("forwards"):
        for number, block in enumerate(held):
            returned.append(block(x, **arguments(number)))
    return counter.phases, len(Block.runs), [(each.shape, each.stride(), each.dtype) for each in returned]


def no_arguments(number: int) -> dict[str, Any]:
    return {}


def a_mask(number: int, alike: bool) -> dict[str, Any]:
    return {"mask": torch.arange(4) > (0 if alike else number)}


def a_cache(number: int, caches: list[Cache]) -> dict[str, Any]:
    caches.append(Cache())
    return {"cache": caches[-1]}


@pytest.mark.parametrize(
    ("kind", "arguments", "runs"),
    [
        (Block, no_arguments, 1),
        (Selecting, partial(a_mask, alike=True), 1),
        (Selecting, partial(a_mask, alike=False), 3),  # other values select other rows
        (Keeping, no_arguments, 3),  # leaves more than it returns
        (Block, lambda _: {"what": (each for each in ())}, 3),  # of which nothing is known
    ],
)
def test_only_forwards_that_repeat_are_noted(kind: type[Block], arguments: Any, runs: int) -> None:
    phases, run, shapes = counted(kind, True, arguments)
    every = counted(kind, False, arguments)
    assert run == runs
    assert every[1] == 3
    assert (phases, shapes) == (every[0], every[2])


def test_what_a_forward_puts_into_a_cache_is_put_there_when_it_is_noted() -> None:
    caches: list[Cache] = []
    phases, run, _ = counted(Filling, True, partial(a_cache, caches=caches))
    assert run == 1
    assert [cache.key is not None and cache.key.shape for cache in caches] == [(4, 8)] * 3
    assert phases == counted(Filling, False, partial(a_cache, caches=[]))[0]
