"""What waits in host memory instead of on the GPU, and what its transfers take.

An iteration is rehearsed with all blocks on the device. Blocks that wait in host memory are then taken off: weights are
there from the first moment to the last, and so are the two places on the device in which swapped blocks run. A test
holds the result against a run that swaps in earnest.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from fewstep.backbones.blocks import blocks
from fewstep.roles.block_swap import RESIDENT, even_places, too_many_blocks
from fewstep.roles.teacher_plan import BASE, teacher_plan
from fewstep.run.budget.op_counter import PLACES, Phase
from fewstep.run.budget.task_forecast import TaskForecast
from fewstep.run.recipe import Recipe, with_run_keys
from fewstep.runtime.device import PRECISIONS
from fewstep.runtime.errors import RecipeError
from fewstep.train.plan import LEAST_SWAPPED

FORWARD_SHARE = {"full": 1 / 3, "selective": 1 / 2, "off": 1 / 2}  # ours: of the work of a pass that learns


@dataclass(frozen=True)
class HostBlocks:
    """Weights in host memory.

    Args:
        swapped: the bytes of each swapped block, by network: `base`, or the name of a teacher that is a further model.
        offloaded: the bytes of each model that visits the device whole.
    """

    swapped: Mapping[str, tuple[int, ...]]
    offloaded: Mapping[str, int]

    @property
    def bytes(self) -> int:
        """Of host memory, for one GPU."""
        return sum(map(sum, self.swapped.values())) + sum(self.offloaded.values())

    def saved(self, network: str) -> int:
        """Bytes that a network takes less on the device."""
        sizes = sorted(self.swapped.get(network, ()))
        return sum(sizes[:-RESIDENT])

    def sent(self, network: str) -> int:
        """Bytes that travel when a network is passed once, forward or backward."""
        return sum(self.swapped.get(network, ()))

    def off_the_device(self, forecast: TaskForecast) -> TaskForecast:
        """The forecast of an iteration that was rehearsed with all blocks on the device."""
        return replace(forecast, phases=tuple(map(self._off, forecast.phases)))

    def _off(self, phase: Phase) -> Phase:
        peak: Counter[str] = Counter(phase.peak)
        for network, sizes in self.swapped.items():
            peak["weights of the base" if network == BASE else f"weights of teacher {network}"] -= sum(sizes)
            peak[PLACES] += sum(sorted(sizes)[-RESIDENT:])
        return replace(phase, peak=+peak)

    def transfers(self, forecast: TaskForecast, speed: float, rate: float) -> "Transfers":
        """What an iteration sends.

        Args:
            speed: floating-point operations a second that are reached.
            rate: bytes a second from the host to the device.
        """
        sent = waited = 0.0
        for load, flops, times in self._passes(forecast):
            sent += times * load
            waited += times * max(0.0, load / rate - flops / speed)
        return Transfers(round(sent), sent / rate, waited)

    def _passes(self, forecast: TaskForecast) -> Iterator[tuple[int, float, float]]:
        """(bytes, operations, how often) of each pass of an iteration. One that learns is a forward and a backward."""
        share = FORWARD_SHARE[forecast.recomputation]
        for call, times in forecast.passes():
            load = self.sent(call.network)
            if call.learns:
                yield load, share * call.flops, times
                yield load, (1 - share) * call.flops, times
            else:
                yield load, call.flops, times


@dataclass(frozen=True)
class Transfers:
    """What an iteration sends from host memory to a GPU.

    Args:
        bytes: of all passes.
        seconds: that they take.
        waited: seconds of them beyond the computation beside which they run.
    """

    bytes: int
    seconds: float
    waited: float


def host_blocks(recipe: Recipe, transformer: nn.Module) -> HostBlocks:
    """What a recipe keeps in host memory. transformer: of the model's size; its weights are not read.

    Raises:
        RecipeError: `run.blocks_to_swap` is more than the model has.
    """
    used = [name for name in teacher_plan(recipe.teachers, recipe.student.steps).used if name != BASE]
    further = {name: teacher for name in used if (teacher := recipe.teachers.named[name]).model is not None}
    number, dtype = recipe.run.swapped_blocks, PRECISIONS[recipe.run.precision]
    places = {name: teacher.place for name, teacher in further.items()}
    if not number and set(places.values()) <= {"resident"}:
        return HostBlocks({}, {})
    held = blocks(transformer)
    if number > len(held):
        raise RecipeError(too_many_blocks(number, len(held)))
    plain = tuple(_bytes(block, dtype.itemsize, False) for block in held)
    swapped = {name: plain for name, place in places.items() if place == "swapped"}
    if number:
        swapped = {BASE: _evenly(_of_base(recipe, transformer), number), **swapped}
    whole = sum(p.numel() for p in transformer.parameters()) * dtype.itemsize
    return HostBlocks(swapped, {name: whole for name, place in places.items() if place == "offloaded"})


def saved_by_number(recipe: Recipe, transformer: nn.Module) -> dict[int, int]:
    """Bytes that a GPU holds less, by the number of the base's blocks in host memory: none, and from the fewest that
    save something to all of them."""
    sizes = _of_base(recipe, transformer)
    return {0: 0} | {
        number: HostBlocks({BASE: _evenly(sizes, number)}, {}).saved(BASE)
        for number in range(LEAST_SWAPPED, len(sizes) + 1)
    }


def with_swapped(recipe: Recipe, number: int) -> Recipe:
    """The recipe with this `run.blocks_to_swap`."""
    return with_run_keys(recipe, {"blocks_to_swap": number})


def all_on_device(recipe: Recipe) -> Recipe:
    """The recipe with everything on the device that would wait in host memory block by block."""
    named = {
        name: teacher.model_copy(update={"place": "resident"}) if teacher.place == "swapped" else teacher
        for name, teacher in recipe.teachers.named.items()
    }
    teachers = recipe.teachers.model_copy(update={"named": named})
    return with_swapped(recipe, 0).model_copy(update={"teachers": teachers})


def _of_base(recipe: Recipe, transformer: nn.Module) -> list[int]:
    """The bytes of each block of the base, as the run holds them."""
    each, rounded = PRECISIONS[recipe.run.precision].itemsize, recipe.run.base_weights != "precision"
    return [_bytes(block, each, rounded) for block in blocks(transformer)]


def _evenly(sizes: Sequence[int], number: int) -> tuple[int, ...]:
    """Those of `number` blocks, chosen as a run chooses them."""
    return tuple(sizes[place] for place in even_places(number, len(sizes)))


def _bytes(block: nn.Module, each: int, rounded: bool) -> int:
    """Of a block's weights. each: bytes of a number. rounded: as `backbones/rounded_linear.py` does."""
    numbers = sum(p.numel() for p in block.parameters())
    if not rounded:
        return numbers * each
    linear = [module for module in block.modules() if type(module) is nn.Linear]
    in_bytes = sum(module.weight.numel() for module in linear)
    return (numbers - in_bytes) * each + in_bytes + each * sum(module.out_features for module in linear)
