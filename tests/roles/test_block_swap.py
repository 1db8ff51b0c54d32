"""Blocks in host memory: the right weights wherever they are used, two of them on the device at most, and gradients as
without. On tiny models of the real classes."""

import weakref
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fewstep.backbones.blocks import blocks
from fewstep.backbones.fp8 import FP8
from fewstep.backbones.int8 import INT8
from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.backbones.rounded_linear import NEVER, round_blocks
from fewstep.flow.rng import NamedRNG
from fewstep.lora.factors import Factors
from fewstep.roles.adapters import linear_shapes
from fewstep.roles.block_swap import BlockSwap, HostPlacement, even_places, placement_of_run, swap_blocks, swap_of
from fewstep.roles.build import RolesSpec, TeacherLoaders, build_roles
from fewstep.roles.execution import Execution
from fewstep.roles.host_block import ALIGNMENT, Courier, HostBlock
from fewstep.roles.plan import AdapterPlan, CriticPlan, Recomputation, StudentPlan, TeachersSpec
from fewstep.roles.recomputation import recompute
from fewstep.roles.roles import Roles
from fewstep.roles.sharding import REPLICATED, Replicated
from fewstep.roles.step_index import StepIndex
from fewstep.runtime.errors import RecipeError
from fewstep.runtime.parallel import SINGLE_RANK
from tests.backbones.families import EDIT, FAMILIES, Family, noise_for
from tests.roles.test_gradient_routing import gradients, loss_of
from tests.train.tiny_model import batch, normal, tiny

CPU = torch.device("cpu")
LAYERS = 6
ROUNDED = {"int8": (INT8, NEVER), "int8-w8a8": (INT8, 1), "fp8-w8a8": (FP8, 1)}  # of few rows too
T = torch.tensor([0.7, 0.3])
CRITIC, STUDENT = 2e-6, 3e-5  # of a gradient's length


class Residency:
    """Notes how many copies of blocks are alive whenever one more is made, and which."""

    def __init__(self, swap: BlockSwap):
        self.most, self.sent = 0, list[int]()
        self._alive = list[weakref.ref[Any]]()
        send, self._of = swap.courier.send, {id(home): n for n, home in enumerate(swap.homes)}

        def noted(block: HostBlock) -> Any:
            copy = send(block)
            self._alive = [one for one in self._alive if one() is not None]
            self._alive.append(weakref.ref(copy.whole.untyped_storage()))
            self.most = max(self.most, len(self._alive))
            self.sent.append(self._of[id(block)])
            return copy

        swap.courier.send = noted  # type: ignore[method-assign]


def deep(held: str = "precision", seed: int = 0) -> QwenImage21:
    """The tiny model with six blocks, whose blocks do something."""
    config = {**tiny().transformer.config, "num_layers": LAYERS}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = QwenImage21.random(config, {"shift": 1.0}, torch.float32)
    with torch.no_grad():
        for parameter in made.transformer.parameters():
            if parameter.dim() == 2:
                parameter.mul_(2)
    if held != "precision":
        round_blocks(made.transformer, *ROUNDED[held])
    return made


def drawn_lora(source: str) -> dict[str, Factors]:
    shapes = {name: shape for name, shape in linear_shapes(deep().transformer).items() if name.endswith("attn.to_v")}
    return {
        name: Factors(0.3 * NamedRNG(5).normal((2, i), name + "a"), 0.3 * NamedRNG(5).normal((o, 2), name + "b"), 2.0)
        for name, (o, i) in shapes.items()
    }


LOADERS = TeacherLoaders(drawn_lora, lambda source, dtype, device: deep(seed=3).transformer)
TEACHERS = {
    "preset": "constant",
    "lam_max": 0.3,
    "named": {"style": {"adapter": "style"}, "further": {"model": "further"}},
    "base": {"guidance": {"t2i": {"scale": 2.0, "keep_norm": True}}},
}


def roles_of(
    swapped: int, how: Recomputation = "full", place: str = "resident", held: str = "precision", stopped: bool = False
) -> Roles:
    plan = AdapterPlan(rank=4, alpha=4.0)
    gradient = {"prefix_gradient": "stopped" if stopped else "full"}
    named = {name: spec | ({"place": place} if "model" in spec else {}) for name, spec in TEACHERS["named"].items()}  # type: ignore[attr-defined]
    spec = RolesSpec(
        StudentPlan.model_validate({"adapter": plan, **gradient}),
        CriticPlan.model_validate({"adapter": plan, **gradient}),
        TeachersSpec.model_validate({**TEACHERS, "named": named}),
        4,
    )
    placement = HostPlacement(swapped, CPU) if swapped else REPLICATED
    roles = build_roles(
        placement.model(lambda device: deep(held), CPU), spec, NamedRNG(0),
        Execution(gradient_checkpointing=how, placement=placement), LOADERS,
    )  # fmt: skip
    with torch.no_grad():
        for network in (roles.student, roles.critic):
            for name, weight in network.named_parameters().items():
                if "lora_B" in name:
                    weight.add_(0.1 * NamedRNG(2).normal(weight.shape, network.name + name))
    return roles


def base_of(roles: Roles) -> nn.Module:
    return roles.teachers.teachers["base"].network.transformer


def assert_near(one: dict[str, Tensor], other: dict[str, Tensor], within: float) -> None:
    assert one.keys() == other.keys()
    off = sum(float((one[n] - other[n]).square().sum()) for n in one) ** 0.5
    assert (length := sum(float(g.square().sum()) for g in one.values()) ** 0.5) > 0
    assert off <= within * length


# ---- the same answers and gradients


@pytest.mark.parametrize(
    ("swapped", "held", "how"),
    [
        (4, "precision", "full"),
        (LAYERS, "int8", "selective"),
        (LAYERS, "fp8-w8a8", "full"),
        pytest.param(4, "precision", "selective", marks=pytest.mark.slow),
        pytest.param(LAYERS, "int8", "full", marks=pytest.mark.slow),
        pytest.param(4, "int8-w8a8", "selective", marks=pytest.mark.slow),
    ],
)
def test_gradients_are_those_without_swap(swapped: int, held: str, how: Recomputation) -> None:
    """Of both roles, beside teachers that answer in between: the base, a LoRA over it, and a further model."""
    whole, apart = roles_of(0, how, held=held), roles_of(swapped, how, "swapped", held)
    for role, within in (("critic", CRITIC), ("student", STUDENT), ("critic", CRITIC)):
        pair = [gradients(getattr(each, role), loss_of(each, role)) for each in (whole, apart)]
        assert_near(*pair, within)
        for each in (whole, apart):
            getattr(each, role).transformer.zero_grad()


@pytest.mark.parametrize("stopped", [False, True])
def test_every_role_answers_as_without(stopped: bool) -> None:
    whole, apart = roles_of(0, stopped=stopped), roles_of(4, place="swapped", stopped=stopped)
    z, given = normal(2, 4, 8), batch(1)
    answers = []
    for each in (whole, apart):
        said = [each.teachers.velocity(z, T, given, StepIndex(3, 3))]
        for network in each.networks:
            with torch.no_grad():
                said.append(network.velocity(z, T, given.cond))
                said.append(network.bind(given.cond, constant_prefix=True)(z, T))
        answers.append(said)
    assert len(answers[0]) == 11
    for one, other in zip(*answers, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=2e-6)
    assert not any(torch.equal(a, b) for a, b in zip(answers[0][3::2], answers[0][1:-2:2], strict=True)), "roles differ"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_velocity_and_gradient_in_every_family(family: Family) -> None:
    """With all blocks in host memory, in the order in which each family runs them."""
    own, apart = family.make(), family.make()
    swap = swap_blocks(apart.transformer, None, CPU)
    residency = Residency(swap)
    assert apart.device == CPU
    assert next(iter(apart.transformer.parameters())) not in {t for home in swap.homes for t in home.tensors}
    cond = EDIT.within(own).conditioning(own)
    for backbone in (own, apart):
        recompute(backbone.transformer, "full")
    inputs, said = [], []
    for backbone in (own, apart):
        z = noise_for(backbone, cond).requires_grad_()
        said.append(backbone.velocity(backbone.transformer, z, torch.full((len(cond),), 0.6), cond))
        said[-1].square().sum().backward()
        inputs.append(z.grad)
    torch.testing.assert_close(*said, rtol=0, atol=2e-6)
    torch.testing.assert_close(*inputs, rtol=1e-5, atol=1e-6)
    assert residency.most <= 2


# ---- how much is on the device


@pytest.mark.parametrize("how", ["full", "selective"])
def test_two_copies_are_alive_at_most_and_each_is_fetched_once_a_pass(how: Recomputation) -> None:
    roles = roles_of(4, how)
    swap = swap_of(base_of(roles))
    assert swap is not None
    seen = Residency(swap)
    z, given = normal(2, 4, 8), batch(1)
    with torch.no_grad():
        for _ in range(2):
            roles.student.velocity(z, T, given.cond)
    assert seen.sent == [0, 1, 2, 3, 0, 1, 2, 3, 0], "the next pass begins with the first, which is fetched ahead"
    seen.sent.clear()
    loss = roles.student.velocity(z, T, given.cond).square().mean()
    assert seen.sent == [1, 2, 3], "the backward pass begins with the last, which stays"
    with roles.student.active():
        loss.backward()
    assert seen.sent == [1, 2, 3, 2, 1, 0], "backwards"
    assert seen.most == 2
    with torch.no_grad():
        roles.student.velocity(z, T, given.cond)
    assert seen.sent[6:] == [1, 2, 3, 0], "the first stayed"


def test_without_recomputation_answers_are_right_and_nothing_is_saved() -> None:
    """Why a recipe refuses it: autograd keeps every copy until the backward pass."""
    roles, whole = roles_of(4, "off"), roles_of(0, "off")
    swap = swap_of(base_of(roles))
    assert swap is not None
    seen = Residency(swap)
    assert_near(*(gradients(each.critic, loss_of(each, "critic")) for each in (whole, roles)), CRITIC)
    assert seen.most == 4


def test_at_home_a_block_has_its_host_memory_and_nothing_else() -> None:
    model = deep().transformer
    before = {name: value.clone() for name, value in model.named_parameters()}
    swap = swap_blocks(model, 4, CPU)
    homes = {home.whole.untyped_storage().data_ptr() for home in swap.homes}
    away = [p for home in swap.homes for p in home.tensors]
    assert {p.untyped_storage().data_ptr() for p in away} == homes
    assert all(p.data_ptr() % ALIGNMENT == p.untyped_storage().data_ptr() % ALIGNMENT for p in away)
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name])
    sizes = sum(p.numel() * p.element_size() for p in away)
    assert sizes <= swap.bytes < sizes + ALIGNMENT * len(away)


def test_an_error_inside_a_block_sends_it_home() -> None:
    model = deep()
    swap, block = swap_blocks(model.transformer, None, CPU), blocks(model.transformer)[2]

    def fails(*_: object) -> None:
        assert swap.homes[2].tensors[0].data_ptr() != swap.homes[2].whole.data_ptr(), "on the device"
        raise ZeroDivisionError

    block.attn.register_forward_pre_hook(fails)
    with pytest.raises(ZeroDivisionError):
        model.velocity(model.transformer, normal(2, 4, 8), T, batch(1).cond)
    assert swap.homes[2].tensors[0].data_ptr() == swap.homes[2].whole.data_ptr()


def test_adapters_stay_out_of_host_memory() -> None:
    roles = roles_of(LAYERS)
    swap = swap_of(base_of(roles))
    assert swap is not None
    away = {id(t) for home in swap.homes for t in home.tensors}
    assert away
    for network in (roles.student, roles.critic):
        assert network.parameters()
        assert not away & {id(p) for p in network.parameters()}
    assert all(
        id(p) in away for name, p in base_of(roles).named_parameters() if "base_layer" in name and "blocks." in name
    )


# ---- which blocks


@pytest.mark.parametrize(("number", "of"), [(1, 5), (3, 6), (4, 6), (12, 32), (28, 60), (60, 60)])
def test_blocks_are_spread_evenly(number: int, of: int) -> None:
    places = even_places(number, of)
    assert len(set(places)) == number
    assert 0 <= places[0] <= places[-1] < of
    gaps = [b - a for a, b in pairwise(places)]
    assert not gaps or max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("number", [LAYERS + 1, 100])
def test_more_blocks_than_there_are_are_refused(number: int) -> None:
    with pytest.raises(RecipeError, match=f"blocks_to_swap is {number}, and this model has 6 blocks: give at most 6"):
        swap_blocks(deep().transformer, number, CPU)


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(RecipeError, match="this model has none: set it to 0"):
        swap_blocks(nn.Linear(2, 2), 3, CPU)


def test_the_recipe_decides_the_placement() -> None:
    assert type(placement_of_run(0, "off", SINGLE_RANK, CPU, "fp32")) is Replicated
    assert type(placement_of_run(3, "off", SINGLE_RANK, CPU, "fp32")) is HostPlacement


# ---- on a GPU


@pytest.fixture
def cuda() -> Iterator[torch.device]:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    yield torch.device("cuda")
    torch.cuda.synchronize()


def test_on_a_gpu_transfers_run_in_a_stream_of_their_own(cuda: torch.device) -> None:
    """Many uses in a row, faster than transfers: a weight that had not arrived would be seen."""
    layers = nn.Sequential(*(nn.Linear(512, 512) for _ in range(8))).requires_grad_(False)
    right: Callable[[Tensor], Tensor] = nn.Sequential(*(nn.Linear(512, 512) for _ in range(8))).requires_grad_(False)
    right.load_state_dict(layers.state_dict())  # type: ignore[attr-defined]
    right.to(cuda)  # type: ignore[attr-defined]
    swap = BlockSwap(list(layers), cuda)
    assert all(home.whole.is_pinned() for home in swap.homes)
    assert isinstance(swap.courier, Courier)
    x = torch.randn(4, 512, device=cuda)
    with torch.no_grad():
        for _ in range(50):
            torch.testing.assert_close(layers(x), right(x))
    assert torch.cuda.memory_allocated(cuda) < 16 * swap.homes[0].bytes
