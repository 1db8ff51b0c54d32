"""Several adapters over one frozen base, on the real transformer."""

import pytest
import torch
from peft.tuners.lora import LoraLayer

from fewstep.backbones.shape_tensor import make_shapes
from fewstep.flow.rng import NamedRNG
from fewstep.lora.factors import Factors
from fewstep.roles.adapters import Adapters
from fewstep.roles.network import Network
from fewstep.roles.plan import AdapterPlan
from fewstep.runtime.errors import AdapterError, RunError
from tests.train.tiny_model import batch, normal, tiny

PLAN = AdapterPlan(rank=4, alpha=8.0)
T = torch.tensor([0.7, 0.3])


def make_nonzero(adapters: Adapters, name: str) -> None:
    """An adapter that changes something: B away from zero."""
    with torch.no_grad():
        for key, weight in adapters.parameters(name).items():
            if "lora_B" in key:
                weight.copy_(0.1 * NamedRNG(5).normal(weight.shape, name + key))


def two() -> tuple[Adapters, dict[str | None, Network]]:
    backbone = tiny()
    adapters = Adapters(backbone.transformer)
    for name in ("student", "critic"):
        adapters.add(name, PLAN, backbone.lora_targets, NamedRNG(0))
    networks = {n: Network(str(n), backbone, backbone.transformer, adapters, n) for n in ("student", "critic", None)}
    return adapters, networks


def velocity_of(network: Network) -> torch.Tensor:
    with torch.no_grad():
        return network.velocity(normal(2, 4, 8), T, batch(0).cond)


def test_new_adapters_are_the_base_exactly() -> None:
    plain = tiny()
    base_v = velocity_of(Network("base", plain, plain.transformer))
    _, networks = two()
    for network in networks.values():
        torch.testing.assert_close(velocity_of(network), base_v, rtol=0, atol=0)


def test_each_role_answers_with_its_own_adapter_alone() -> None:
    """Above all: the teacher has the student's adapter off."""
    plain = tiny()
    base_v = velocity_of(Network("base", plain, plain.transformer))
    adapters, networks = two()
    make_nonzero(adapters, "student")
    make_nonzero(adapters, "critic")
    velocities = {name: velocity_of(network) for name, network in networks.items()}
    torch.testing.assert_close(velocities[None], base_v, rtol=0, atol=0)
    assert (velocities["student"] - base_v).abs().max() > 1e-3
    assert (velocities["student"] - velocities["critic"]).abs().max() > 1e-3
    with networks["student"].active():  # a teacher asked while the student is on
        torch.testing.assert_close(velocity_of(networks[None]), base_v, rtol=0, atol=0)
        torch.testing.assert_close(velocity_of(networks["critic"]), velocities["critic"], rtol=0, atol=0)
        assert adapters.on == "student"


def test_the_role_outside_comes_back_even_after_an_error() -> None:
    adapters, networks = two()
    with networks["student"].active():
        with pytest.raises(RuntimeError, match="shape"), networks["critic"].active():
            networks["critic"].velocity(normal(2, 4, 3), T, batch(0).cond)
        assert adapters.on == "student"
    assert adapters.on is None


def test_switching_touches_no_requires_grad() -> None:
    """peft's set_adapter would: it freezes whom it switches off and, across several, opens whom it switches on."""
    _, networks = two()
    transformer = networks["student"].transformer
    before = {name: p.requires_grad for name, p in transformer.named_parameters()}
    assert {name for name, learns in before.items() if learns} == {
        name for name in before if name.split(".")[-2] in ("student", "critic")
    }
    for name in ("critic", None, "student"):
        with networks[name].active():
            assert before == {n: p.requires_grad for n, p in transformer.named_parameters()}


def test_all_target_modules_are_adapted_and_no_other() -> None:
    adapters, networks = two()
    layers = [name for name, m in networks["student"].transformer.named_modules() if isinstance(m, LoraLayer)]
    assert len(layers) == 2 * 7  # two blocks of four attention and three MLP projections
    assert len(adapters.parameters("student")) == 2 * len(layers)
    assert all(
        layer.scaling["student"] == 2.0
        for layer in networks["student"].transformer.modules()
        if isinstance(layer, LoraLayer)
    )


def test_a_foreign_switch_is_noticed() -> None:
    _, networks = two()
    for layer in networks["student"].transformer.modules():
        if isinstance(layer, LoraLayer):
            layer.set_adapter("critic")
    with pytest.raises(AssertionError), networks["student"].active():
        pass


def test_adapters_are_fp32_masters_over_a_bf16_base() -> None:
    backbone = tiny(torch.bfloat16)
    adapters = Adapters(backbone.transformer)
    adapters.add("student", PLAN, backbone.lora_targets, NamedRNG(0))
    assert {p.dtype for p in adapters.parameters("student").values()} == {torch.float32}
    assert backbone.transformer.img_in.weight.dtype == torch.bfloat16
    assert velocity_of(Network("student", backbone, backbone.transformer, adapters, "student")).isfinite().all()


def test_over_shapes_alone_an_adapter_has_the_forms_of_a_real_one() -> None:
    """What a plan counts; its values would be drawn for nothing."""
    real, unreal = tiny(torch.bfloat16), tiny(torch.bfloat16)
    make_shapes(unreal.transformer)
    forms = []
    for backbone in (real, unreal):
        adapters = Adapters(backbone.transformer, torch.device("cpu"))
        adapters.add("student", PLAN, backbone.lora_targets, NamedRNG(0))
        adapters.add("critic", PLAN, backbone.lora_targets, NamedRNG(0))
        own = {f"{role} {key}": p for role in ("student", "critic") for key, p in adapters.parameters(role).items()}
        forms.append({key: (p.shape, p.stride(), p.dtype, p.requires_grad) for key, p in own.items()})
    assert forms[0] == forms[1]
    assert all(p.is_meta for p in adapters.parameters("student").values())


def test_fresh_adapters_depend_on_seed_and_name_alone() -> None:
    torch.manual_seed(1)
    first, _ = two()
    torch.manual_seed(2)
    second, _ = two()
    for name in ("student", "critic"):
        for key, weight in first.parameters(name).items():
            torch.testing.assert_close(weight, second.parameters(name)[key], rtol=0, atol=0)
    key = next(iter(first.parameters("student")))
    assert (first.parameters("student")[key] != first.parameters("critic")[key]).any()
    assert first.parameters("student")[key].abs().max() <= 64**-0.5


# ---- given adapters


def factors(rank: int = 2, alpha: float = 3.0) -> Factors:
    return Factors(normal(rank, 64, name="a"), normal(64, rank, name="b"), alpha)


def test_a_loaded_adapter_adds_its_update_module_by_module() -> None:
    adapters, networks = two()
    given = {"transformer_blocks.0.attn.to_q": factors(2, 3.0), "transformer_blocks.1.attn.to_v": factors(5, 1.0)}
    adapters.load("teacher-x", given, "x.safetensors")
    merged = tiny()
    with torch.no_grad():
        for module, f in given.items():
            merged.transformer.get_submodule(module).weight += (f.alpha / f.rank) * f.b @ f.a
    backbone = networks["student"].backbone
    mine = Network("x", backbone, backbone.transformer, adapters, "teacher-x")
    torch.testing.assert_close(
        velocity_of(mine), velocity_of(Network("m", merged, merged.transformer)), rtol=1e-4, atol=1e-4
    )
    assert not mine.parameters()
    assert networks["student"].parameters()


@pytest.mark.parametrize("module", ["transformer_blocks.9.attn.to_q", "transformer_blocks.0", "img_mlp.gate_up"])
def test_modules_that_the_base_lacks_are_refused(module: str) -> None:
    adapters, _ = two()
    with pytest.raises(AdapterError, match=r"x\.safetensors changes " + module):
        adapters.load("teacher-x", {module: factors()}, "x.safetensors")


def test_other_sizes_are_refused() -> None:
    adapters, _ = two()
    given = {"transformer_blocks.0.img_mlp.out": factors()}
    with pytest.raises(AdapterError, match="another base"):
        adapters.load("teacher-x", given, "x.safetensors")


# ---- a network's state


def test_state_travels_between_networks() -> None:
    adapters, networks = two()
    make_nonzero(adapters, "student")
    state = {name: value.clone() for name, value in networks["student"].state().items()}
    assert all("student" not in name for name in state)
    _, others = two()
    others["student"].load_state(state)
    torch.testing.assert_close(velocity_of(others["student"]), velocity_of(networks["student"]), rtol=0, atol=0)
    assert not networks[None].state()


def test_a_state_of_another_recipe_is_refused() -> None:
    _, networks = two()
    state = dict(networks["student"].state())
    name, value = state.popitem()
    for wrong in (state, {**state, name: value[:1]}, {**state, name: value, "extra": value}):
        with pytest.raises(RunError, match="another recipe"):
            networks["student"].load_state(wrong)
