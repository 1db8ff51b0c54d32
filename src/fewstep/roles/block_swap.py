"""Block swap: blocks of a frozen transformer that wait in host memory, and come to the device one ahead of their use.

Adapters and their gradients stay on the device; only frozen weights travel. They never change, so nothing travels back:
a copy is dropped after use. At most two of them are on the device, the one that runs and the one that is fetched.

    forward           0 -> 1 -> ... -> last
    backward          last -> ... -> 0, where each block is computed again first (gradient checkpointing)

A block that is computed again leaves its weights in autograd's hands, as views of the copy, until its own backward is
over. So a copy lives exactly as long as it is needed, and what is read is never the home of another block. Without
recomputation autograd would keep every copy from forward to backward: right, but nothing would be saved. So swap goes
with recomputation alone.

Peers: `blocks_to_swap` of kohya's sd-scripts and of musubi-tuner, which exchange a block's place on the GPU for
another's; diffusers' `apply_group_offloading`, which is not used here. With a stream it moves all weights of a block,
adapters too, and puts back a copy of them that was taken before they learnt. It drops a block in a hook behind its
forward, which a recomputation that ends early never reaches.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.blocks import blocks
from fewstep.roles.host_block import Courier, DeviceCopy, HostBlock
from fewstep.roles.sharding import Placement, Replicated, Sharding, placement_for
from fewstep.runtime.errors import RecipeError
from fewstep.runtime.parallel import Ranks

RESIDENT = 2  # copies on the device at a time


class SwappedForward:
    """Stands in the place of a block's `forward`, under the block's hooks. It also runs where the block is computed
    again."""

    def __init__(self, forward: Callable[..., Any], swap: "BlockSwap", number: int):
        self._forward, self._swap, self._number = forward, swap, number

    def __call__(self, *given: Any, **named: Any) -> Any:
        with self._swap.on_device(self._number):
            return self._forward(*given, **named)


class BlockSwap:
    """Some blocks of one frozen transformer, numbered in the order in which they run.

    Selective recomputation counts the operations of a block in both runs, and a block that is already here takes fewer.
    So what happens here is hidden from it, and from all that watches operations.

    An order that is another than expected costs time, never a wrong weight: what was not fetched ahead is fetched when
    it is needed.
    """

    def __init__(self, chosen: Sequence[nn.Module], device: torch.device):
        """Moves the blocks' weights to host memory, and lets their forwards fetch them."""
        self.homes = [HostBlock(block, pinned=device.type == "cuda") for block in chosen]
        self.courier = Courier(device)
        self._here: dict[int, DeviceCopy] = {}
        for number, block in enumerate(chosen):
            block.forward = SwappedForward(block.forward, self, number)  # type: ignore[method-assign]

    @property
    def bytes(self) -> int:
        """Of host memory."""
        return sum(home.bytes for home in self.homes)

    @contextmanager
    def on_device(self, number: int) -> Iterator[None]:
        """Inside, block `number` has its weights on the device, and the block that is expected next is on its way."""
        home = self.homes[number]
        with _disable_current_modes():
            home.use(self._arrived(number))
        try:
            yield
        finally:
            with _disable_current_modes():
                home.go_home()

    def _arrived(self, number: int) -> DeviceCopy:
        needed = (number, self._following(number))
        for other in self._here.keys() - {*needed}:  # first, so that their memory is free for those that come
            self.courier.await_copy(self._here.pop(other))
        for one in needed:
            if one not in self._here:
                self._here[one] = self.courier.send(self.homes[one])
        self.courier.await_copy(self._here[number])
        return self._here[number]

    def _following(self, number: int) -> int:
        """The block that is expected to be used after this one. At a turning point it may be the same."""
        last = len(self.homes) - 1
        if torch._C._current_graph_task_id() != -1:  # inside a backward pass, as torch.utils.checkpoint asks it
            return max(number - 1, 0)
        if number < last:
            return number + 1
        return last if torch.is_grad_enabled() else 0


class HostPlacement(Replicated):
    """Some blocks of the base wait in host memory, and everything else is whole on the device. The model is loaded into
    host memory first, so it may be larger than the device."""

    def __init__(self, number: int, device: torch.device):
        """number: blocks of the base in host memory."""
        self._number, self._device = number, device

    def model(self, load: Callable[[torch.device], Backbone], device: torch.device) -> Backbone:
        return load(torch.device("cpu"))

    def base(self, transformer: nn.Module) -> nn.Module:
        swap_blocks(transformer, self._number, self._device)
        return self.frozen(transformer)


def swap_blocks(transformer: nn.Module, number: int | None, device: torch.device) -> BlockSwap:
    """Moves `number` blocks to host memory (all of them if None), evenly spread, and the rest to the device.

    Evenly, so that a block's transfer overlaps with the computation of those in between.

    Raises:
        RecipeError: there are fewer blocks.
    """
    held = blocks(transformer)
    number = len(held) if number is None else number
    if not 0 < number <= len(held):
        raise RecipeError(too_many_blocks(number, len(held)))
    swap = BlockSwap([held[place] for place in even_places(number, len(held))], device)
    away = {id(tensor) for home in swap.homes for tensor in home.tensors}
    with torch.no_grad():
        for tensor in (*transformer.parameters(), *transformer.buffers()):
            if id(tensor) not in away:
                tensor.data = tensor.data.to(device)
    return swap


def even_places(number: int, of: int) -> list[int]:
    """`number` of the places 0 .. of - 1 at even distances."""
    return [(2 * k + 1) * of // (2 * number) for k in range(number)]


def too_many_blocks(number: int, there: int) -> str:
    """What is said of more swapped blocks than a transformer has."""
    if not there:
        return "run.blocks_to_swap is for transformers that are made of blocks, and this model has none: set it to 0"
    return f"run.blocks_to_swap is {number}, and this model has {there} blocks: give at most {there}"


def swap_of(transformer: nn.Module) -> BlockSwap | None:
    """The swap that runs this transformer's blocks; None if all of them are on the device."""
    forwards = (vars(block).get("forward") for block in blocks(transformer))
    return next((forward._swap for forward in forwards if isinstance(forward, SwappedForward)), None)


def placement_of_run(swapped: int, sharding: Sharding, ranks: Ranks, device: torch.device, precision: str) -> Placement:
    """The placement that `run.blocks_to_swap` and `run.sharding` ask for, of which a recipe has one at most.
    swapped: blocks of the base in host memory.

    Raises:
        RecipeError: as `placement_for`.
    """
    return HostPlacement(swapped, device) if swapped else placement_for(sharding, ranks, device, precision)
