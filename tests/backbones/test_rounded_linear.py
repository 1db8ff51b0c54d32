"""A base in a byte a weight: what it answers, what goes through it, and what it keeps. Converted for each product, or
multiplied in 8 bits."""

import os
import subprocess
import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from fewstep.backbones.base_weights import ROUNDED, has_units, hold_base_as, refuse_products
from fewstep.backbones.blocks import blocks
from fewstep.backbones.conditioning import Conditioning
from fewstep.backbones.families import load_backbone
from fewstep.backbones.fp8 import FP8, from_e4m3, to_e4m3
from fewstep.backbones.int8 import INT8, dequantize, quantize, sums_saturate_on_cpu
from fewstep.backbones.rounded_linear import LEAST_ROWS, NEVER, NumberFormat, RoundedLinear, round_blocks
from fewstep.flow.rng import NamedRNG
from fewstep.roles.adapters import Adapters, linear_shapes
from fewstep.roles.compilation import compile_blocks
from fewstep.roles.plan import AdapterPlan
from fewstep.roles.recomputation import recompute
from fewstep.roles.targets import target_modules
from fewstep.runtime.base_weight_kinds import BaseWeights
from fewstep.runtime.errors import EnvironmentRefused
from tests.backbones.families import EDIT, FAMILIES, Family, noise_for

EXACT = {"rtol": 0, "atol": 1e-6}
FORMATS = pytest.mark.parametrize("numbers", [INT8, FP8], ids=["int8", "fp8"])
TRACING = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
TRACING_OURS = pytest.mark.filterwarnings("ignore:.*should not be instantiated")


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def frozen(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Linear(inputs, outputs, bias=bias).requires_grad_(False)


def weight_of(layer: RoundedLinear, dtype: torch.dtype = torch.float32) -> Tensor:
    """What its numbers stand for, (out, in)."""
    return layer.numbers.converted(layer.weight.view(layer.numbers.dtype), layer.scale, dtype)


def off(ours: Tensor, exact: Tensor) -> float:
    return float((ours - exact).norm() / exact.norm())


# ---- numbers


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_int8_is_off_by_half_a_level_of_its_row(dtype: torch.dtype) -> None:
    """A row of large weights costs its neighbours nothing; a row of zeros is one."""
    weight = drawn(6, 40) * torch.tensor([1.0, 100.0, 1e-3, 1.0, 0.0, 1e-20])[:, None]
    weight = weight.to(dtype)
    whole, scale = quantize(weight)
    assert (whole.dtype, scale.dtype, whole.abs().max()) == (torch.int8, dtype, 127)
    back = dequantize(whole, scale, torch.float32)
    error = (back - weight.float()).abs().amax(dim=1)
    assert (error <= 0.501 * scale.float()).all()
    assert (back[4] == 0).all()
    assert torch.isfinite(dequantize(whole, scale, dtype)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fp8_is_off_by_a_sixteenth_of_itself(dtype: torch.dtype) -> None:
    """Beside an outlier too, down to the least normal number: 2^-6 of 448."""
    weight = drawn(6, 40) * torch.tensor([1.0, 100.0, 1e-3, 1.0, 0.0, 1e-20])[:, None]
    weight[3, 0] = 1000
    weight = weight.to(dtype)
    numbers, scale = to_e4m3(weight)
    assert (numbers.dtype, scale.dtype, numbers.float().abs().max()) == (torch.float8_e4m3fn, dtype, 448)
    back = from_e4m3(numbers, scale, torch.float32)
    error, least = (back - weight.float()).abs(), 2.0**-10 * scale.float()[:, None]  # half a step below the normal ones
    assert (error <= torch.maximum(weight.float().abs() / 15.5, least)).all()
    assert (back[4] == 0).all()
    assert torch.isfinite(from_e4m3(numbers, scale, dtype)).all()


@FORMATS
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so_and_in_its_row(numbers: NumberFormat, bad: float) -> None:
    """Else an update that went wrong would not be skipped."""
    layer, x = RoundedLinear(frozen(32, 16), numbers, least_rows=1), drawn(5, 32)
    x[2, 7] = bad
    finite = torch.isfinite(layer(x)).all(dim=1)
    assert finite.tolist() == [True, True, False, True, True]


# ---- one layer


@FORMATS
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_is_the_product_with_the_rounded_weight(numbers: NumberFormat, bias: bool) -> None:
    layer = frozen(12, 7, bias)
    small = RoundedLinear(layer, numbers)
    ours, theirs = (drawn(2, 5, 12).requires_grad_() for _ in range(2))
    answers = small(ours), functional.linear(theirs, weight_of(small), layer.bias)
    torch.testing.assert_close(*answers, **EXACT)
    for answer in answers:
        (answer * drawn(2, 5, 7, seed=1)).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, **EXACT)
    with torch.autocast("cpu", torch.bfloat16):
        assert small(ours).dtype == torch.bfloat16


@FORMATS
@pytest.mark.parametrize("bias", [True, False])
def test_a_product_in_8_bits_is_that_of_numbers_so_rounded(numbers: NumberFormat, bias: bool) -> None:
    """Against float64: of the input, and of the gradient times the weight's scale, each row rounded apart. fp8 leaves
    its kernel in bf16."""
    layer = RoundedLinear(frozen(48, 32, bias), numbers, least_rows=1)
    x, g = drawn(2, 9, 48).requires_grad_(), drawn(2, 9, 32, seed=1) * 1e-4
    y = layer(x)
    y.backward(g)
    w8, scale = layer.weight.view(numbers.dtype).double(), layer.scale.double()
    added = 0 if layer.bias is None else layer.bias.double()
    near = {"rtol": 2**-8, "atol": 2**-9} if numbers is FP8 else {"rtol": 1e-5, "atol": 1e-6}
    expected = _rounded(numbers, x.detach()) @ (w8 * scale[:, None]).T + added
    torch.testing.assert_close(y.detach().double(), expected, **near)
    assert x.grad is not None
    near["atol"] *= 1e-4
    torch.testing.assert_close(x.grad.double(), _rounded(numbers, g * layer.scale) @ w8, **near)


LARGEST_INTEGERS = """
import torch
from torch import nn
from fewstep.backbones.int8 import INT8
from fewstep.backbones.rounded_linear import RoundedLinear

layer = nn.Linear(48, 32, bias=False).requires_grad_(False)
layer.weight.fill_(1)
with torch.device("meta"):  # as when a model is made around it
    rounded = RoundedLinear(layer, INT8, least_rows=1)
print(rounded(torch.ones(1, 1, 48)).eq(48).all().item())
largest, one = torch.full((16, 48), 127, dtype=torch.int8), torch.ones(16)
with torch.autocast("cpu", torch.bfloat16):
    print(INT8.multiplied(largest, one, largest.t(), None, None, torch.float32).eq(48 * 127**2).all().item())
"""


@pytest.mark.parametrize("instructions", ["DEFAULT", "AVX2"])
def test_large_integers_add_up_on_cpus_without_instructions_for_them(instructions: str) -> None:
    """torch's own product stops at 32,767 there (findings/torch-int8-sums-saturate.sh). oneDNN can be told to do
    without, if this CPU has them."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": instructions}
    words = [sys.executable, "-c", LARGEST_INTEGERS]
    assert subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout == "True\nTrue\n"


def _rounded(numbers: NumberFormat, x: Tensor) -> Tensor:
    """What is left of x (..., K) when each row is rounded, in float64."""
    rounded, scale = numbers.rounded(x.flatten(0, -2))
    return (rounded.double() * scale.double()[:, None]).view(x.shape)


@pytest.mark.parametrize(("numbers", "most"), [(INT8, 0.012), (FP8, 0.05)], ids=["int8", "fp8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gradient_stays_near_that_of_the_exact_weight(
    numbers: NumberFormat, most: float, dtype: torch.dtype
) -> None:
    """Of rows of very different sizes, as tokens' gradients are, each measured against its own length."""
    exact = frozen(128, 96)
    layer = RoundedLinear(exact, numbers, least_rows=1)
    x, g = drawn(40, 128).to(dtype).requires_grad_(), drawn(40, 96, seed=1) * 10.0 ** -torch.arange(40)[:, None].div(4)
    layer(x).backward(g.to(dtype))
    assert x.grad is not None
    errors = (x.grad.float() - g @ exact.weight).norm(dim=1) / (g @ exact.weight).norm(dim=1)
    assert errors.max() < most
    assert errors.min() > 0.1 * most, "else nothing was rounded"


@FORMATS
def test_few_rows_are_multiplied_in_the_run_s_precision(numbers: NumberFormat) -> None:
    """And layers whose sides the kernels do not take."""
    layer, x = RoundedLinear(frozen(32, 16), numbers, LEAST_ROWS), drawn(LEAST_ROWS, 32).bfloat16()
    weight = weight_of(layer, torch.bfloat16)

    def whole(x: Tensor) -> Tensor:
        return functional.linear(x, weight, layer.bias.bfloat16())

    assert torch.equal(layer(x[1:]), whole(x[1:]))
    assert not torch.equal(layer(x), whole(x))
    assert not torch.equal(layer(x.view(2, -1, 32)), whole(x.view(2, -1, 32))), "rows of all samples count"
    for inputs, outputs in ((24, 16), (32, 24)):
        odd, given = RoundedLinear(frozen(inputs, outputs), numbers, LEAST_ROWS), drawn(LEAST_ROWS, inputs)
        assert torch.equal(odd(given), functional.linear(given, weight_of(odd), odd.bias))


@FORMATS
def test_a_token_s_answer_does_not_depend_on_its_neighbours(numbers: NumberFormat) -> None:
    layer, x = RoundedLinear(frozen(32, 16), numbers, least_rows=1), drawn(20, 32)
    beside = torch.cat([x[:7], 1000 * x[7:]])
    torch.testing.assert_close(layer(beside)[:7], layer(x)[:7], rtol=0, atol=1e-6)


@FORMATS
@pytest.mark.parametrize("least_rows", [1, NEVER])
def test_only_bytes_are_saved_for_backward(numbers: NumberFormat, least_rows: float) -> None:
    small = RoundedLinear(frozen(64, 64), numbers, least_rows)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):  # type: ignore[func-returns-value]
        small(drawn(3, 64).requires_grad_())
    assert [x.dtype for x in kept if x.numel() == 64 * 64] == [numbers.kept]
    assert len(kept) == 2, "and the scale"


# ---- a whole transformer


@pytest.fixture
def own(family: Family) -> Any:
    return family.make()


@pytest.fixture
def spread(own: Any) -> Any:
    """One whose blocks do something, as a trained one's do: tiny random weights leave the answer to the embeddings."""
    with torch.no_grad():
        for block in blocks(own.transformer):
            for parameter in block.parameters():
                if parameter.dim() == 2:
                    parameter.mul_(3)
    return own


def asked(backbone: Any, cond: Conditioning) -> Tensor:
    return backbone.velocity(backbone.transformer, noise_for(backbone, cond), torch.full((len(cond),), 0.6), cond)


@pytest.mark.parametrize(
    ("numbers", "least_rows", "most"), [(INT8, NEVER, 0.03), (INT8, 1, 0.05), (FP8, 1, 0.15)],
    ids=["int8", "int8-w8a8", "fp8-w8a8"],
)  # fmt: skip
def test_the_blocks_alone_are_rounded_and_the_velocity_stays_near(
    spread: Any, numbers: NumberFormat, least_rows: float, most: float
) -> None:
    cond = EDIT.within(spread).conditioning(spread)
    shapes, before, dtype = linear_shapes(spread.transformer), asked(spread, cond), spread.transformer.dtype
    round_blocks(spread.transformer, numbers, least_rows)
    inside = {id(m) for block in blocks(spread.transformer) for m in block.modules()}
    linear = [m for m in spread.transformer.modules() if isinstance(m, nn.Linear)]
    assert all((type(m) is RoundedLinear) == (id(m) in inside) for m in linear)
    assert any(id(m) not in inside for m in linear)
    assert linear_shapes(spread.transformer) == shapes
    assert spread.transformer.dtype == dtype, "what diffusers takes for it"
    after = asked(spread, cond)
    assert not torch.equal(after, before)
    assert off(after, before) < most
    assert not any(p.requires_grad for p in spread.transformer.parameters())


# Warnings of torch as it traces; it hides them itself where warnings are no errors.
@TRACING
@TRACING_OURS
@pytest.mark.parametrize("how", ["off", "full"])
def test_adapters_over_it_are_those_over_the_rounded_base(family: Family, how: str) -> None:
    """The same velocity and the same gradients as over a base of full size that has the rounded values."""
    _assert_as_over_the_rounded(family, INT8, how)


@TRACING
@pytest.mark.parametrize(("numbers", "how"), [(INT8, "selective"), (INT8, "compiled"), (FP8, "selective")])
def test_so_they_are_however_blocks_are_run(numbers: NumberFormat, how: str) -> None:
    """A matter of the layer, not of the family: one is enough."""
    _assert_as_over_the_rounded(FAMILIES[0], numbers, how)


def _assert_as_over_the_rounded(family: Family, numbers: NumberFormat, how: str) -> None:
    small, large = family.make(), family.make()
    round_blocks(small.transformer, numbers)
    rounded_values = {n: m for n, m in small.transformer.named_modules() if isinstance(m, RoundedLinear)}
    with torch.no_grad():
        for name, layer in rounded_values.items():
            large.transformer.get_parameter(f"{name}.weight").copy_(weight_of(layer))
    cond = EDIT.within(large).conditioning(large)
    found = [_learnt(backbone, cond, how) for backbone in (small, large)]
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


def _learnt(backbone: Any, cond: Conditioning, how: Any) -> dict[str, Tensor]:
    """The velocity, and the gradient of every adapter weight, B away from zero."""
    adapters = Adapters(backbone.transformer)
    names = target_modules("attention+mlp", backbone, linear_shapes(backbone.transformer))
    adapters.add("student", AdapterPlan(rank=2, alpha=2.0), names, NamedRNG(0))
    learnt = adapters.parameters("student")
    with torch.no_grad():
        for name, parameter in learnt.items():
            parameter.copy_(0.1 * NamedRNG(1).normal(parameter.shape, name))
    if how == "compiled":
        torch._dynamo.reset()
        compile_blocks(backbone.transformer, backend="eager")
    else:
        recompute(backbone.transformer, how)
    with adapters.active("student"):
        v_BND = asked(backbone, cond)
        v_BND.square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in learnt.items() if parameter.grad is not None}
    assert len(gradients) > 4
    return {"velocity": v_BND.detach(), **gradients}


class Products(TorchDispatchMode):
    """Counts products in 8 bits."""

    def __init__(self) -> None:
        super().__init__()
        self.made: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._int_mm.default, torch.ops.aten._scaled_mm.default):
            self.made[func.name()] += 1
        return func(*args, **(kwargs or {}))


@TRACING
@FORMATS
def test_products_in_8_bits_learn_the_same_however_blocks_are_run(numbers: NumberFormat) -> None:
    """The same gradients, and no product twice but where all is computed again; selective keeps those of fp8, and not
    int8's, which are in int32."""
    found, made = {}, {}
    for how in ("off", "selective", "full", "compiled"):
        backbone = FAMILIES[0].make()
        round_blocks(backbone.transformer, numbers, least_rows=1)
        cond = EDIT.within(backbone).conditioning(backbone)
        products = Products()
        with nullcontext() if how == "compiled" else products:  # nothing is compiled under a mode
            found[how] = _learnt(backbone, cond, how)
        made[how] = products.made.total()
    if numbers is FP8 or not sums_saturate_on_cpu():  # else int8's products are in float64
        layers = sum(isinstance(m, RoundedLinear) for m in backbone.transformer.modules())
        assert made["off"] >= 1.5 * layers
        again = made["off"] + layers - 2  # what follows the last block's last product is not reached again
        assert made["full"] >= again
        assert made["selective"] >= again if numbers is INT8 else made["selective"] == made["off"]
    for how in ("selective", "full", "compiled"):
        torch.testing.assert_close(found[how], found["off"], **EXACT, msg=how)


@pytest.mark.parametrize(
    ("numbers", "most"), [(INT8, 0.05), (FP8, 0.2)], ids=["int8", "fp8"]
)  # fmt: skip
def test_the_student_s_gradient_stays_near_that_over_the_exact_base(numbers: NumberFormat, most: float) -> None:
    learnt = []
    for rounded in (False, True):
        backbone = FAMILIES[0].make()
        if rounded:
            round_blocks(backbone.transformer, numbers, least_rows=1)
        made = _learnt(backbone, EDIT.within(backbone).conditioning(backbone), "off")
        learnt.append(torch.cat([gradient.flatten() for name, gradient in made.items() if name != "velocity"]))
    assert 0.001 < off(learnt[1], learnt[0]) < most


@pytest.mark.parametrize("parts", ["all", "decoder", "transformer"])
def test_it_is_loaded_so(family: Family, own: Any, parts: str, tmp_path: Path) -> None:
    _assert_loaded_so(own, parts, "int8", tmp_path)


@pytest.mark.parametrize("how", ["int8-w8a8", "fp8-w8a8"])
def test_in_every_way(how: BaseWeights, tmp_path: Path) -> None:
    loaded = _assert_loaded_so(FAMILIES[0].make(), "transformer", how, tmp_path)
    numbers, least_rows = ROUNDED[how]
    layers = [m for m in loaded.transformer.modules() if isinstance(m, RoundedLinear)]
    assert {(m.numbers, m.least_rows, m.weight.dtype) for m in layers} == {(numbers, least_rows, numbers.kept)}


def _assert_loaded_so(own: Any, parts: Any, how: BaseWeights, folder: Path) -> Any:
    own.pipeline.save_pretrained(folder)
    loaded = load_backbone(folder, dtype=torch.float32, parts=parts, base_weights=how)
    cond = EDIT.within(own).conditioning(own)
    hold_base_as(own.transformer, how)
    held, made = loaded.transformer.state_dict(), own.transformer.state_dict()
    assert all(torch.equal(held[name], made[name]) for name in held | made)
    # Weights in a file's memory are aligned otherwise, and products then sum in another order.
    torch.testing.assert_close(asked(loaded, cond), asked(own, cond), **EXACT)
    assert not any(p.requires_grad for p in loaded.transformer.parameters())
    return loaded


# ---- where they are refused


@pytest.mark.parametrize("how", ["int8-w8a8", "fp8-w8a8"])
def test_a_device_without_such_products_is_refused_by_name(how: BaseWeights) -> None:
    with pytest.raises(EnvironmentRefused, match=rf"is {how}, and device mps has no products .*base_weights: int8 or"):
        refuse_products(torch.device("mps"), how)
    refuse_products(torch.device("cpu"), how)
    refuse_products(torch.device("mps"), "int8")


@pytest.mark.parametrize(
    ("how", "without", "having"),
    [
        ("int8-w8a8", [(6, 1), (7, 0)], [(7, 5), (8, 0), (12, 0)]),
        ("fp8-w8a8", [(7, 5), (8, 0), (8, 6)], [(8, 9), (9, 0), (12, 0)]),
    ],
)
def test_units_begin_with_turing_and_ada(
    how: BaseWeights, without: list[tuple[int, int]], having: list[tuple[int, int]]
) -> None:
    assert not any(has_units(capability, how) for capability in without)
    assert all(has_units(capability, how) for capability in having)
