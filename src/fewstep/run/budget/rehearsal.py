"""Runs one iteration of a recipe in order to count it: with the real roles, the real objective and the real blocks.

On a fake backbone (`backbones/fake_model.py`) no values are computed; on a real one the same is measured. AdamW's
moments are allocated from the beginning, as they are in every iteration after the first.
"""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.base_weights import hold_base_as
from fewstep.backbones.blocks import blocks
from fewstep.backbones.conditioning import Conditioning
from fewstep.backbones.fake_model import (
    fake_deepcopy_allowed,
    fake_mode,
    make_parameters_fake,
)
from fewstep.backbones.joint_sequence import forget_layouts
from fewstep.backbones.shape_tensor import has_shapes, make_shapes, run_on_shapes
from fewstep.encode.batch import Batch
from fewstep.flow.rng import NamedRNG
from fewstep.roles.adapters import Adapters
from fewstep.roles.block_swap import BlockSwap, placement_of_run, swap_of
from fewstep.roles.build import RolesSpec, TeacherLoaders, build_roles
from fewstep.roles.execution import Execution
from fewstep.roles.host_block import DeviceCopy, HostBlock
from fewstep.roles.offloaded import OffloadedNetwork
from fewstep.roles.plan import WatchPlan
from fewstep.roles.roles import Roles
from fewstep.roles.sharding import (
    REPLICATED,
    Placement,
)
from fewstep.run.budget.fake_ranks import FakeEmptyMode
from fewstep.run.budget.op_counter import (
    CONDITIONING,
    PLACES,
    OpCounter,
    Phase,
)
from fewstep.run.budget.repeated_forwards import RepeatedForwards
from fewstep.run.recipe import Recipe
from fewstep.runtime.parallel import SINGLE_RANK, Ranks
from fewstep.train.build import build_dmd_step
from fewstep.train.ema import EMA
from fewstep.train.monitor import StepTimer
from fewstep.train.role_optimizer import RoleOptimizer
from fewstep.train.settings import DMDSettings


@dataclass(frozen=True)
class RehearsalResult:
    """What a rehearsal counted. calls: forwards by role; both branches of guidance count as one if run in one."""

    phases: tuple[Phase, ...]
    calls: Mapping[str, int]


def rehearse(
    backbone: Backbone,
    recipe: Recipe,
    batch: Batch,
    loaders: TeacherLoaders,
    parts: int = 1,
    ranks: Ranks = SINGLE_RANK,
    noting: bool = True,
) -> RehearsalResult:
    """Rehearses one iteration, at the student's last step and after all ramps: specialised teachers have most weight
    there.

    It is the code of a real iteration. On a fake backbone its tensors have shapes and no data, so the model can be
    larger than this machine.

    Args:
        parts: the number of parts that the batch is cut into.
        ranks: the ranks of the run, of which only the first is rehearsed.
        noting: whether forwards that repeat are noted instead of run, where tensors are shapes alone.
    """
    run, device = recipe.run, batch.cond.text_BLC.device
    placement = placement_of_run(run.swapped_blocks, run.sharding, ranks, device, run.precision)
    roles = rehearsal_roles(backbone, recipe, loaders, placement)
    rng = NamedRNG(recipe.run.seed)
    op_counter = OpCounter(run_on_shapes) if has_shapes(backbone.transformer) else OpCounter()
    settings = DMDSettings(recipe.student, _once(recipe.critic), recipe.objective, _usual(recipe.teachers.watch))
    step = build_dmd_step(roles, settings, rng, ranks, timer=cast(StepTimer, op_counter))
    optimizers = step.optimizers
    for role_optimizer in (optimizers.student, optimizers.critic):
        _prime(role_optimizer)
    _note(op_counter, roles, (optimizers.student, optimizers.critic), optimizers.ema, batch)
    calls = _counting(roles, op_counter)
    if noting and has_shapes(backbone.transformer):
        _noting_repeats(roles, op_counter)
    forget_layouts(backbone.transformer)  # which later rehearsals of a process would find, and the first one count
    with _unreal(backbone.transformer), op_counter, warnings.catch_warnings():
        # torch looks at .grad when it makes a fake of a real tensor
        warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
        step.iterate(recipe.run.iterations - 1, recipe.student.steps - 1, *batch.micro_batches(parts))
    return RehearsalResult(tuple(op_counter.phases), dict(calls))


def _unreal(transformer: nn.Module) -> AbstractContextManager[object]:
    """Makes buffers that an iteration allocates as fake as its weights are."""
    fake = fake_mode(transformer)
    return nullcontext() if fake is None else FakeEmptyMode(fake)


def _usual(watch: WatchPlan) -> WatchPlan:
    """The watch of most iterations: without the base's forward that only one in `base_every` has."""
    return watch if watch.base_every == 1 else watch.model_copy(update={"base_every": 0})


def _counting(roles: Roles, op_counter: OpCounter) -> Counter[str]:
    """Counts the forwards of each role while its transformer is called."""
    calls: Counter[str] = Counter()
    hooked: set[int] = set()
    for network in roles.networks:
        if id(network.transformer) in hooked:
            continue
        hooked.add(id(network.transformer))
        adapters, name = network.adapters, network.name

        def count(*_: object, adapters: Any = adapters, name: str = name) -> None:
            op_counter.call(name if adapters is None else "base")
            calls[name if adapters is None else adapters.on or "base"] += 1

        network.transformer.register_forward_pre_hook(count)
    return calls


def _noting_repeats(roles: Roles, op_counter: OpCounter) -> None:
    """Forwards of blocks that repeat are noted instead of run."""
    repeated = RepeatedForwards(op_counter)
    adapters = {id(network.transformer): network.adapters for network in roles.networks}
    for transformer in {id(network.transformer): network.transformer for network in roles.networks}.values():
        own = adapters[id(transformer)]
        repeated.install(blocks(transformer), partial(_switched_on, own))


def _switched_on(adapters: Adapters | None) -> str | None:
    return None if adapters is None else adapters.on


def rehearsal_roles(
    backbone: Backbone, recipe: Recipe, loaders: TeacherLoaders, placement: Placement = REPLICATED
) -> Roles:
    """The roles of a run over a backbone, in the run's precision."""
    hold_base_as(backbone.transformer, recipe.run.base_weights)
    fake, run = fake_mode(backbone.transformer), recipe.run
    student = recipe.student.model_copy(update={"init_from": None})  # changes values, not sizes
    with fake_deepcopy_allowed():
        made = build_roles(
            backbone,
            RolesSpec(student, recipe.critic, recipe.teachers, run.iterations),
            NamedRNG(run.seed),
            Execution(run.precision, run.recomputation_by_task, placement=placement),
            loaders,
        )
    for network in made.networks:
        if has_shapes(network.transformer):
            make_shapes(network.transformer)
        elif fake is not None:
            make_parameters_fake(network.transformer, fake)
    return made


def _once(critic: Any) -> Any:
    """The critic's section with a single update. All updates are alike."""
    return critic.model_copy(update={"updates": 1})


def _prime(role_optimizer: RoleOptimizer) -> None:
    for parameter in role_optimizer.local_shards.values():
        role_optimizer.optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }


def _note(
    op_counter: OpCounter, roles: Roles, role_optimizers: tuple[RoleOptimizer, RoleOptimizer], ema: EMA, batch: Batch
) -> None:
    """Names the purpose of all that is allocated before the iteration, and of the gradients to come."""
    for name, teacher in roles.teachers.teachers.items():
        network = teacher.network
        if isinstance(network, OffloadedNetwork):
            _visiting(op_counter, network, f"weights of teacher {name}")
        elif network.adapters is None:
            op_counter.note(_tensors(network.transformer), f"weights of teacher {name}")
        elif network.adapter is not None:
            op_counter.note(network.adapters.parameters(network.adapter).values(), f"weights of teacher {name}")
    for role_optimizer in role_optimizers:
        name = role_optimizer.network.name
        op_counter.note(role_optimizer.named.values(), f"weights of the {name}")
        for state in role_optimizer.optimizer.state.values():
            op_counter.note(state.values(), f"optimiser of the {name}")
        for parameter in role_optimizer.named.values():
            parameter.register_post_accumulate_grad_hook(_naming(op_counter, f"gradients of the {name}"))
    op_counter.note(ema.mean.values(), "averaged student")
    for role_optimizer in role_optimizers:
        if role_optimizer.network.adapters is None:
            op_counter.note(
                _tables(role_optimizer.network.transformer), f"weights of the {role_optimizer.network.name}"
            )
    base = roles.teachers.teachers["base"].network.transformer
    own = {id(p) for one in (*role_optimizers,) for p in one.named.values()}
    if (swap := swap_of(base)) is not None:
        own |= _swapping(op_counter, swap)
    frozen = [p for name, p in base.named_parameters() if id(p) not in own and ".lora_" not in name]
    op_counter.note([*frozen, *_tables(base)], "weights of the base")
    op_counter.note(_conditionings(batch), CONDITIONING)


def _visiting(op_counter: OpCounter, network: OffloadedNetwork, purpose: str) -> None:
    """Counts the weights of an offloaded teacher while they are on the device. CPU memory is not counted."""
    visit = network.active

    @contextmanager
    def active() -> Iterator[None]:
        with visit():
            op_counter.note(_tensors(network.transformer), purpose)
            yield

    network.active = active  # type: ignore[method-assign]


def _swapping(op_counter: OpCounter, swap: BlockSwap) -> set[int]:
    """Counts copies of blocks from when they are made. The ids of the weights that wait on the CPU, which are not
    counted."""
    send = swap.courier.send

    def sent(block: HostBlock) -> DeviceCopy:
        copy = send(block)
        op_counter.note([copy.whole], PLACES)
        return copy

    swap.courier.send = sent  # type: ignore[method-assign]
    return {id(tensor) for home in swap.homes for tensor in home.tensors}


def _naming(op_counter: OpCounter, purpose: str) -> Any:
    def hook(parameter: Tensor) -> None:
        if parameter.grad is not None:
            op_counter.note([parameter.grad], purpose)

    return hook


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *_tables(module)]


def _tables(module: nn.Module) -> list[Tensor]:
    """Buffers, and tensors that modules keep as plain attributes or in lists: rotary tables."""
    kept = [value for one in module.modules() for value in vars(one).values()]
    kept += [entry for value in kept if isinstance(value, list | tuple) for entry in value]
    return [*module.buffers(), *(value for value in kept if isinstance(value, Tensor))]


def _conditionings(batch: Batch) -> list[Tensor]:
    every: list[Conditioning] = [batch.cond, *cast(Mapping[str, Conditioning], batch.negatives).values()]
    return [t for c in every for t in (c.text_BLC, c.mask_BL, c.references_BRD) if t is not None]
