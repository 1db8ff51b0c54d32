"""Forwards without gradient that a rehearsal has counted before, and does not run again.

Most forwards of an iteration keep no gradient: rollouts and teachers. Their blocks are alike, and run on inputs of the
same shapes in every step. Such a forward leaves nothing but its results: the tensors that it returns, and those that it
puts into a cache of keys and values. So what it counts is operations, the bytes it holds at most beyond what was there,
and the bytes of its results. They are counted once, in a forward that is run, and noted for each one after it that has
the same description.

A forward is run each time if it has no description, or if it was seen to leave more than that. Sharded weights are
gathered and freed meanwhile, so their forwards are run as well.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from operator import is_
from typing import Any

import torch
from torch import nn

from fewstep.backbones.shape_tensor import ShapePlan, ShapeTensor
from fewstep.run.budget.forward_key import Description, Indescribable
from fewstep.run.budget.op_counter import OpCounter, Stretch


@dataclass(frozen=True)
class CountedForward:
    """What a forward counted and left.

    Args:
        returned: the tensors that it returns. is_tuple: whether in a tuple.
        put: tensors that it made attributes of objects: (which of those described, name, tensor).
    """

    stretch: Stretch
    returned: tuple[ShapePlan, ...]
    is_tuple: bool
    put: tuple[tuple[int, str, ShapePlan], ...]

    def repeat(self, op_counter: OpCounter, given: Description) -> Any:
        """Counts it again, and leaves tensors like those that it left. given: the arguments, described."""
        made = [plan.make() for plan in self.returned]
        put = [(given.objects[number], name, plan.make()) for number, name, plan in self.put]
        for owner, name, tensor in put:
            setattr(owner, name, tensor)
        op_counter.repeat(self.stretch, [*made, *(tensor for *_, tensor in put)])
        return tuple(made) if self.is_tuple else made[0]


_counted: dict[Any, CountedForward | None] = {}  # by description; None: it has to be run each time
_numbers: dict[tuple[Any, ...], int] = {}  # of descriptions of modules, which are long


class RepeatedForwards:
    """Lets forwards of modules be noted where they repeat, while one rehearsal runs."""

    def __init__(self, op_counter: OpCounter) -> None:
        self._op_counter = op_counter
        self._modules: dict[nn.Module, int | None] = {}  # a module stays as it is during a rehearsal

    def install(self, modules: Iterable[nn.Module], switch: Callable[[], str | None]) -> None:
        """switch: tells what of these modules changes between forwards: the adapter that is on."""
        for module in modules:
            self._modules[module] = _number(module)
            module.forward = partial(self._call, module, module.forward, switch)  # type: ignore[method-assign]

    def _call(
        self, module: nn.Module, forward: Callable[..., Any], switch: Callable[[], str | None], *args: Any, **named: Any
    ) -> Any:
        number, run = self._modules[module], partial(forward, *args, **named)
        if torch.is_grad_enabled() or number is None or not self._op_counter.phases:
            return run()
        given = _described((args, named))
        if given is None:
            return run()
        cast = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
        key = number, switch(), module.training, cast, tuple(given.told)
        if key not in _counted:
            return self._count(key, given, run, (args, named))
        known = _counted[key]
        return run() if known is None else known.repeat(self._op_counter, given)

    def _count(self, key: Any, given: Description, run: Callable[[], Any], arguments: Any) -> Any:
        before = [dict(vars(owner)) for owner in given.objects]

        def run_and_look() -> tuple[Any, list[tuple[int, str, Any]]]:
            return run(), _put(given.objects, before)

        (made, put), stretch = self._op_counter.stretch(run_and_look)
        left = [*(made if type(made) is tuple else [made]), *(value for *_, value in put)]
        known = stretch is not None and all(type(each) is ShapeTensor for each in left)
        if not known or not _same_but_for(put, given, before, arguments):
            _counted[key] = None
            return made
        plans = [ShapePlan.of(each) for each in left]
        returned, kept = plans[: len(plans) - len(put)], plans[len(plans) - len(put) :]
        places = tuple((number, name, plan) for (number, name, _), plan in zip(put, kept, strict=True))
        assert stretch is not None
        _counted[key] = CountedForward(stretch, tuple(returned), type(made) is tuple, places)
        return made


def _put(objects: list[Any], before: list[dict[str, Any]]) -> list[tuple[int, str, Any]]:
    """Attributes of objects that are others than before: (which object, name, value)."""
    return [
        (number, name, value)
        for number, (owner, old) in enumerate(zip(objects, before, strict=True))
        for name, value in vars(owner).items()
        if name not in old or old[name] is not value
    ]


def _same_but_for(
    put: list[tuple[int, str, Any]], given: Description, before: list[dict[str, Any]], arguments: Any
) -> bool:
    """Whether arguments are as they were before a forward, apart from the attributes that were put."""
    if any(name not in before[number] for number, name, _ in put):
        return False
    for number, name, _ in put:
        setattr(given.objects[number], name, before[number][name])
    now = _described(arguments)
    for number, name, value in put:
        setattr(given.objects[number], name, value)
    return now is not None and now.told == given.told and all(map(is_, now.tensors, given.tensors))


def _number(module: nn.Module) -> int | None:
    """The same for all modules that are alike; None for one that cannot be described."""
    description = Description()
    try:
        description.add_module(module, outermost=True)
    except (Indescribable, RecursionError):
        return None
    return _numbers.setdefault(tuple(description.told), len(_numbers))


def _described(value: Any) -> Description | None:
    description = Description()
    try:
        description.add(value)
    except (Indescribable, RecursionError):
        return None
    return description
