"""AdamW on one role, the skipped update, and the average that is shipped."""

from typing import Any

import pytest
import torch

from fewstep.backbones.testing.toy import ToyBackbone
from fewstep.flow.rng import NamedRNG
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.network import Network
from fewstep.roles.plan import (
    CriticPlan,
    StudentPlan,
    TeachersSpec,
)
from fewstep.runtime.errors import RunError
from fewstep.train.ema import EMA
from fewstep.train.ema_decay import decay_at
from fewstep.train.role_optimizer import RoleOptimizer
from tests.train.tiny_model import tiny


def toy(**given: Any) -> tuple[Network, RoleOptimizer]:
    backbone = ToyBackbone()
    backbone.transformer.requires_grad_(True)
    network = Network("student", backbone, backbone.transformer)
    return network, RoleOptimizer(network, StudentPlan(mode="full", **given))


def pull(network: Network, strength: float = 1.0) -> torch.Tensor:
    """A loss whose gradient is known: `strength` on every weight."""
    return strength * torch.stack([p.sum() for p in network.parameters()]).sum()


def updated(role_optimizer: RoleOptimizer, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """An update by one loss."""
    role_optimizer.backward(loss)
    return role_optimizer.step()


def test_steps_are_adamws() -> None:
    network, role_optimizer = toy(learning_rate=1e-2, betas=(0.5, 0.9), weight_decay=0.1, clip=1e9)
    twin, _ = toy()
    plain = torch.optim.AdamW(twin.parameters(), lr=1e-2, betas=(0.5, 0.9), weight_decay=0.1, foreach=False)
    for i in range(3):
        updated(role_optimizer, pull(network, 1 + i))
        plain.zero_grad()
        pull(twin, 1 + i).backward()
        plain.step()
    for name, weight in network.state().items():
        torch.testing.assert_close(weight, twin.state()[name], rtol=1e-5, atol=1e-7)


def test_the_step_size_cools_down_over_the_last_share_of_the_run() -> None:
    _, role_optimizer = toy(learning_rate=1e-2, cooldown=0.5)
    taken = []
    for i in range(8):
        role_optimizer.set_lr(i, 8)
        taken.append(role_optimizer.optimizer.param_groups[0]["lr"])
    assert taken == pytest.approx([1e-2] * 5 + [0.75e-2, 0.5e-2, 0.25e-2])


def test_the_step_size_rises_over_the_first_iterations() -> None:
    _, role_optimizer = toy(learning_rate=1e-2, lr_warmup=4, cooldown=0.25)

    def rate(i: int, before: int = 0) -> float:
        role_optimizer.set_lr(i, 8, before)
        return float(role_optimizer.optimizer.param_groups[0]["lr"])

    assert [rate(i) for i in range(8)] == pytest.approx([0.25e-2, 0.5e-2, 0.75e-2, 1e-2, 1e-2, 1e-2, 1e-2, 0.5e-2])
    assert [rate(0, before) for before in range(3)] + [rate(i, 3) for i in range(2)] == pytest.approx(
        [0.25e-2, 0.5e-2, 0.75e-2, 1e-2, 1e-2]
    )


def test_without_a_cooldown_the_step_size_is_constant() -> None:
    _, role_optimizer = toy(learning_rate=1e-2)
    role_optimizer.set_lr(7, 8)
    assert role_optimizer.optimizer.param_groups[0]["lr"] == 1e-2


def test_the_norm_is_reported_before_it_is_clipped() -> None:
    network, role_optimizer = toy(clip=0.5)
    number = sum(p.numel() for p in network.parameters())
    metrics = updated(role_optimizer, pull(network, 2.0))
    assert float(metrics["norm"]) == pytest.approx(2 * number**0.5, rel=1e-5)
    assert metrics["skipped"] == 0
    moments = [value for name, value in role_optimizer.state().items() if name.endswith("exp_avg_sq")]
    clipped = sum(float(m.sum()) for m in moments) / (1 - 0.999)
    assert clipped == pytest.approx(0.5**2, rel=1e-3)


@pytest.mark.parametrize("fault", ["loss", "gradient"])
def test_an_update_that_is_not_finite_changes_nothing(fault: str) -> None:
    network, role_optimizer = toy(weight_decay=0.1)
    updated(role_optimizer, pull(network))
    weights = {name: value.clone() for name, value in network.state().items()}
    moments = {name: value.clone() for name, value in role_optimizer.state().items()}
    loss = pull(network)
    metrics = updated(role_optimizer, loss + torch.nan if fault == "loss" else loss * torch.inf)
    assert metrics["skipped"] == 1
    for before, after in ((weights, network.state()), (moments, role_optimizer.state())):
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert updated(role_optimizer, pull(network))["skipped"] == 0
    assert all((weights[name] != value).any() for name, value in network.state().items())


def test_state_travels_and_continues_alike() -> None:
    network, role_optimizer = toy()
    other, its = toy()
    updated(role_optimizer, pull(network))
    other.load_state(network.state())
    its.load_state({name: value.clone() for name, value in role_optimizer.state().items()})
    for both, of in ((network, role_optimizer), (other, its)):
        updated(of, pull(both, 0.3))
    assert all(torch.equal(value, other.state()[name]) for name, value in network.state().items())


def test_weights_without_a_gradient_have_no_state_and_continue_alike() -> None:
    network, role_optimizer = toy()
    idle, moved = network.named_parameters()["log_var_ND"], network.named_parameters()["mean_ND"]
    before = idle.detach().clone()
    updated(role_optimizer, moved.sum())
    state = role_optimizer.state()
    assert {name.split("/")[0] for name in state} == {"mean_ND"}
    role_optimizer.load_state({name: value.clone() for name, value in state.items()})
    updated(role_optimizer, moved.sum())
    assert torch.equal(idle, before)


def test_before_the_first_update_there_is_no_state() -> None:
    network, role_optimizer = toy()
    assert role_optimizer.state() == {}
    updated(role_optimizer, pull(network))
    role_optimizer.load_state({})
    assert role_optimizer.state() == {}


def test_the_state_of_other_parameters_is_refused() -> None:
    network, role_optimizer = toy()
    updated(role_optimizer, pull(network))
    state = dict(role_optimizer.state())
    state.popitem()
    with pytest.raises(RunError, match="other parameters"):
        role_optimizer.load_state(state)


def test_an_optimizer_over_a_frozen_role_is_our_mistake() -> None:
    roles = build_roles(tiny(), RolesSpec(StudentPlan(), CriticPlan(), TeachersSpec(), 1), NamedRNG(0))
    with pytest.raises(AssertionError, match="nothing to learn"):
        RoleOptimizer(roles.teachers.teachers["base"].network, StudentPlan())


# ---- the average


def test_the_average_is_exponential() -> None:
    network, _ = toy()
    start = {name: value.clone() for name, value in network.state().items()}
    ema = EMA(network, 0.9)
    for i in (1.0, 2.0):
        with torch.no_grad():
            for name, p in network.named_parameters().items():
                p.copy_(start[name] + i)
        ema.update()
    for name, value in ema.mean.items():
        torch.testing.assert_close(value, start[name] + 0.1 * 1 + 0.9 * 2)


@pytest.mark.parametrize("decay", [0.9, 0.999, 0.3, 0.0])
def test_nothing_of_the_start_is_left_after_the_first_update(decay: float) -> None:
    """Measured: weights that stay at 1 after a start at 0."""
    network, _ = toy()
    with torch.no_grad():
        for weight in network.named_parameters().values():
            weight.zero_()
    ema = EMA(network, decay)
    with torch.no_grad():
        for weight in network.named_parameters().values():
            weight.fill_(1.0)
    for _ in range(3):
        ema.update()
        assert all(torch.equal(value, torch.ones_like(value)) for value in ema.mean.values())
    assert ema.start_share == 0


def test_the_decay_rises_to_its_bound() -> None:
    rise = [decay_at(0.9, i) for i in range(200)]
    assert rise[:3] == [0, 1 / 10, 2 / 11]
    assert rise == sorted(rise)
    assert rise[-1] == 0.9
    assert decay_at(0.9, 8, warmup=3.0) == 0.8


def test_with_two_and_no_bound_the_average_is_the_plain_mean() -> None:
    network, _ = toy()
    start = {name: value.clone() for name, value in network.state().items()}
    ema = EMA(network, 0.999999, warmup=2.0)
    for i in (1.0, 2.0, 6.0):
        with torch.no_grad():
            for name, p in network.named_parameters().items():
                p.copy_(start[name] + i)
        ema.update()
    for name, value in ema.mean.items():
        torch.testing.assert_close(value, start[name] + 3)


def test_an_average_of_an_earlier_version_goes_on_with_its_constant_decay() -> None:
    network, _ = toy()
    ema = EMA(network, 0.9)
    start = {name: value.clone() for name, value in ema.mean.items()}
    with torch.no_grad():
        for weight in network.named_parameters().values():
            weight.add_(1.0)
    ema.go_on(None, 2)
    ema.update()
    for name, value in ema.mean.items():
        torch.testing.assert_close(value, start[name] + 0.1)
    assert ema.start_share == pytest.approx(0.9**3)
    assert not ema.progress()["warms_up"]


def test_no_decay_is_the_raw_student() -> None:
    network, role_optimizer = toy()
    ema = EMA(network, 0.0)
    updated(role_optimizer, pull(network))
    ema.update()
    assert all(torch.equal(value, network.state()[name]) for name, value in ema.mean.items())


def test_the_student_has_its_own_weights_again_after_being_looked_at() -> None:
    network, role_optimizer = toy()
    ema = EMA(network, 0.9)
    for _ in range(2):  # the first one copies the weights
        updated(role_optimizer, pull(network))
        ema.update()
    own = {name: value.clone() for name, value in network.state().items()}
    with ema.applied():
        assert all(torch.equal(value, ema.mean[name]) for name, value in network.state().items())
    assert all(torch.equal(value, own[name]) for name, value in network.state().items())
    with pytest.raises(ZeroDivisionError), ema.applied():
        1 // 0  # noqa: B018 - an examiner that fails
    assert all(torch.equal(value, own[name]) for name, value in network.state().items())
    assert any((value != ema.mean[name]).any() for name, value in network.state().items())
