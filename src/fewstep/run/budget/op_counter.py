"""Counts allocated bytes by purpose, and floating-point operations, at every operation of torch.

Storages are counted, not tensors: a view costs nothing. A storage counts from the operation that made it until it is
freed. What a kernel allocates and frees internally is not seen, nor what an allocator rounds up.
"""

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from fewstep.backbones.shape_tensor import ShapeTensor, UncompiledMode, leaves_of

CONDITIONING = "conditioning"
ROLLOUT = "rollout states, prefix"
GATHERED = "gathered weights"  # of sharded weights: what is gathered at the moment, and communication buffers
PLACES = "swapped blocks, two at a time"  # of weights that wait in host memory: those on the device
ACTIVATIONS = "activations"  # what has no other purpose: what backward needs, and results of operations
_ATEN = torch.ops.aten


def _attention_on_cpu(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query.shape, key.shape, value.shape)


def _its_backward(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(grad.shape, query.shape, key.shape, value.shape)


def _product_of_bytes(left: Tensor, right: Tensor, *_: Any, **__: Any) -> int:
    return 2 * left.shape[0] * left.shape[1] * right.shape[1]


# torch's own formulas lack the CPU's attention, through which fake tensors of a GPU's run go, and int8's product.
_MORE: dict[Any, Callable[..., int]] = {
    _ATEN._scaled_dot_product_flash_attention_for_cpu: _attention_on_cpu,
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: _its_backward,
    _ATEN._int_mm: _product_of_bytes,
}


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    return func(*args, **kwargs)


@cache
def _known(func: Any) -> tuple[Callable[..., int] | None, bool]:
    """What is known of an operation: how its floating-point operations are counted, if it has any, and whether it is
    FSDP's."""
    packet = func.overloadpacket
    if packet in _MORE:
        formula = _MORE[packet]
        return (lambda args, kwargs, made: formula(*args, **kwargs)), False
    if packet in flop_registry:
        of_torch = flop_registry[packet]
        return (lambda args, kwargs, made: of_torch(*args, **kwargs, out_val=made)), False
    return None, func.namespace == "fsdp"


class NetworkCall(NamedTuple):
    """One call of a network.

    Args:
        network: whose weights it ran on: `base`, or the name of a teacher that is a further model.
        flops: floating-point operations until the next call or the end of the phase; so a backward pass counts to its
            forward.
        learns: whether a backward pass follows.
    """

    network: str
    flops: int
    learns: bool


@dataclass
class Phase:
    """A part of an iteration.

    Args:
        peak: allocated bytes by purpose at the moment when their sum is largest.
        flops: floating-point operations of the phase.
        last_call: those of them since a network was last called.
        calls: how many times networks were called.
        by_call: those calls, one by one.
    """

    name: str
    peak: Counter[str] = field(default_factory=Counter)
    flops: int = 0
    last_call: int = 0
    calls: int = 0
    by_call: tuple[NetworkCall, ...] = ()

    @property
    def bytes(self) -> int:
        return sum(self.peak.values())


@dataclass(frozen=True)
class Stretch:
    """What was counted between two moments, of operations that left nothing but their results.

    Args:
        flops: floating-point operations.
        rise: the bytes that were held at most, beyond those at its beginning.
    """

    flops: int
    rise: int


class OpCounter(UncompiledMode):
    """Counts while it is entered. It is used in place of a `train.monitor.StepTimer`: `part` begins a phase."""

    def __init__(self, run: Callable[[Any, Any, dict[str, Any]], Any] = _run) -> None:
        """run: what gives an operation's result, by the operation and its arguments."""
        super().__init__()
        self._run = run
        self.phases: list[Phase] = []
        self._live: dict[int, tuple[int, str, Any]] = {}  # storage -> bytes, purpose, weak reference
        self._now: Counter[str] = Counter()
        self._total = self._most = 0
        self._at_most = False  # whether what is held now is the phase's peak, and is not in it yet
        self._top = 0  # the most since the present stretch began
        self._reassigned = False  # whether anything got another purpose or size since then

    def note(self, tensors: Iterable[Tensor], purpose: str) -> None:
        """Counts tensors that are already allocated, or changes the purpose of counted ones."""
        for tensor in tensors:
            self._hold(tensor, purpose)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Begins a phase. What the rollout leaves allocated are its states, and the prefix that they share."""
        self._keep_peak()
        before = set(self._live)
        self.phases.append(Phase(name, +self._now))
        self._most = self._total
        yield
        self._keep_peak()
        if name == "rollout":
            for key in self._live.keys() - before:
                if self._live[key][1] == ACTIVATIONS:  # but not the buffers into which weights are gathered
                    self._rename(key, ROLLOUT)

    def call(self, network: str) -> None:
        """Call it whenever a network is called. network: as in `NetworkCall`."""
        if self.phases:
            phase = self.phases[-1]
            phase.last_call = 0
            phase.calls += 1
            phase.by_call = (*phase.by_call, NetworkCall(network, 0, torch.is_grad_enabled()))

    def stretch(self, run: Callable[[], Any]) -> tuple[Any, Stretch | None]:
        """Runs something, within a phase. What it returns, and what was counted meanwhile: None if it leaves more than
        the tensors that it returns, or changes anything that was there before it."""
        before, start, flops, phase = dict(self._live), self._total, self.phases[-1].flops, len(self.phases)
        outer = self._top, self._reassigned
        self._top, self._reassigned = start, False
        made = run()
        results = [_own(each).untyped_storage()._cdata for each in leaves_of(made) if isinstance(each, Tensor)]
        there = all(key in self._live and self._live[key][2] is old[2] for key, old in before.items())
        own = len(set(results)) == len(results) and self._live.keys() - before.keys() == set(results)
        known = there and own and not self._reassigned and phase == len(self.phases)
        counted = Stretch(self.phases[-1].flops - flops, self._top - start) if known else None
        self._top, self._reassigned = max(self._top, outer[0]), self._reassigned or outer[1]
        return made, counted

    def repeat(self, stretch: Stretch, results: Iterable[Tensor]) -> None:
        """Counts operations like those of a stretch, without their being run. results: the tensors that they leave."""
        self._work(stretch.flops)
        most = self._total + stretch.rise
        self._top = max(self._top, most)
        if most > self._most:
            self._most, self._at_most = most, False
            self.phases[-1].peak = +(self._now + Counter({ACTIVATIONS: stretch.rise}))
        for tensor in results:
            self._hold(tensor, None)

    def seconds(self) -> dict[str, float]:
        return {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = self._run(func, args, kwargs)
        flops_of, is_fsdp = _known(func)
        if flops_of is not None:
            self._work(flops_of(args, kwargs, made))
        if isinstance(made, Tensor):  # as nearly all do
            self._hold(made, None)
        else:
            for tensor in leaves_of(made):
                if isinstance(tensor, Tensor):
                    self._hold(tensor, None)
        if is_fsdp:  # its copies into and out of buffers
            for tensor in leaves_of((args, kwargs)):
                if isinstance(tensor, Tensor):
                    self._gather(tensor)
        return made

    def __enter__(self) -> Any:
        """Also counts storages that are resized. FSDP2 frees and allocates gathered weights in this way, which is not
        an operation of torch."""
        self._resize, on_resize = torch.UntypedStorage.resize_, self._resized

        def resize_(storage: Any, size: int) -> Any:
            made = self._resize(storage, size)
            on_resize(storage)
            return made

        torch.UntypedStorage.resize_ = resize_  # type: ignore[method-assign, assignment]
        return super().__enter__()

    def __exit__(self, *failure: Any) -> None:
        self._keep_peak()
        torch.UntypedStorage.resize_ = self._resize  # type: ignore[method-assign]
        super().__exit__(*failure)

    def _work(self, flops: int) -> None:
        if flops and self.phases:
            phase = self.phases[-1]
            phase.flops += flops
            phase.last_call += flops
            if phase.by_call:
                *before, last = phase.by_call
                phase.by_call = (*before, last._replace(flops=last.flops + flops))

    def _hold(self, tensor: Tensor, purpose: str | None) -> None:
        storage = _own(tensor).untyped_storage()
        key = storage._cdata
        if key in self._live:
            if purpose is not None:
                self._rename(key, purpose)
            return
        self._reassigned |= purpose is not None
        purpose = purpose or ACTIVATIONS
        self._live[key] = 0, purpose, weakref.ref(storage, lambda _: self._gone(key))
        self._grow(key, storage.nbytes())

    def _gather(self, tensor: Tensor) -> None:
        key = _own(tensor).untyped_storage()._cdata
        if key in self._live and self._live[key][1] == ACTIVATIONS:
            self._rename(key, GATHERED)

    def _resized(self, storage: Any) -> None:
        self._reassigned = True
        if storage._cdata in self._live:
            self._grow(storage._cdata, storage.nbytes())

    def _grow(self, key: int, size: int) -> None:
        before, purpose, reference = self._live[key]
        if size < before:
            self._keep_peak()
        self._live[key] = size, purpose, reference
        self._now[purpose] += size - before
        self._total += size - before
        if self._total > self._most and self.phases:
            self._most, self._at_most = self._total, True
        if self._total > self._top:
            self._top = self._total

    def _keep_peak(self) -> None:
        """Call it before anything gets smaller or changes its purpose. A copy at every allocation that makes a peak
        higher would take a tenth of a rehearsal."""
        if self._at_most:
            self.phases[-1].peak, self._at_most = +self._now, False

    def _rename(self, key: int, purpose: str) -> None:
        self._keep_peak()
        self._reassigned = True
        size, before, reference = self._live[key]
        self._live[key] = size, purpose, reference
        self._now[before] -= size
        self._now[purpose] += size

    def _gone(self, key: int) -> None:
        self._keep_peak()
        size, purpose, _ = self._live.pop(key)
        self._now[purpose] -= size
        self._total -= size


def _own(tensor: Tensor) -> Tensor:
    """The tensor whose storage counts: this rank's shard, and of shapes alone the one that they stand for."""
    if isinstance(tensor, ShapeTensor):
        return tensor.on_meta
    return tensor._local_tensor if isinstance(tensor, DTensor) else tensor
