"""AdamW on one role, the skipped update, and the average that is shipped."""

from typing import Any

import pytest
import torch
from parts import tiny

from fewstep.backbones.toy import ToyBackbone
from fewstep.errors import RunError
from fewstep.flow.noise import Draw
from fewstep.roles.assemble import assemble
from fewstep.roles.network import Network
from fewstep.roles.plan import CriticPlan, StudentPlan, TeachersSpec
from fewstep.train.average import Average
from fewstep.train.learner import Learner


def toy(**given: Any) -> tuple[Network, Learner]:
    backbone = ToyBackbone()
    backbone.transformer.requires_grad_(True)
    network = Network("student", backbone, backbone.transformer)
    return network, Learner(network, StudentPlan(mode="full", **given))


def pull(network: Network, strength: float = 1.0) -> torch.Tensor:
    """A loss whose gradient is known: `strength` on every weight."""
    return strength * torch.stack([p.sum() for p in network.parameters()]).sum()


def updated(learner: Learner, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """An update by one loss."""
    learner.add(loss)
    return learner.step()


def test_steps_are_adamws() -> None:
    network, learner = toy(learning_rate=1e-2, betas=(0.5, 0.9), weight_decay=0.1, clip=1e9)
    twin, _ = toy()
    plain = torch.optim.AdamW(twin.parameters(), lr=1e-2, betas=(0.5, 0.9), weight_decay=0.1, foreach=False)
    for i in range(3):
        updated(learner, pull(network, 1 + i))
        plain.zero_grad()
        pull(twin, 1 + i).backward()
        plain.step()
    for name, weight in network.state().items():
        torch.testing.assert_close(weight, twin.state()[name], rtol=1e-5, atol=1e-7)


def test_the_step_size_cools_down_over_the_last_share_of_the_run() -> None:
    _, learner = toy(learning_rate=1e-2, cooldown=0.5)
    taken = []
    for i in range(8):
        learner.pace(i, 8)
        taken.append(learner.optimiser.param_groups[0]["lr"])
    assert taken == pytest.approx([1e-2] * 5 + [0.75e-2, 0.5e-2, 0.25e-2])


def test_without_a_cooldown_the_step_size_is_constant() -> None:
    _, learner = toy(learning_rate=1e-2)
    learner.pace(7, 8)
    assert learner.optimiser.param_groups[0]["lr"] == 1e-2


def test_the_norm_is_reported_before_it_is_clipped() -> None:
    network, learner = toy(clip=0.5)
    number = sum(p.numel() for p in network.parameters())
    seen = updated(learner, pull(network, 2.0))
    assert float(seen["norm"]) == pytest.approx(2 * number**0.5, rel=1e-5)
    assert seen["skipped"] == 0
    moments = [value for name, value in learner.state().items() if name.endswith("exp_avg_sq")]
    clipped = sum(float(m.sum()) for m in moments) / (1 - 0.999)
    assert clipped == pytest.approx(0.5**2, rel=1e-3)


@pytest.mark.parametrize("fault", ["loss", "gradient"])
def test_an_update_that_is_not_finite_changes_nothing(fault: str) -> None:
    network, learner = toy(weight_decay=0.1)
    updated(learner, pull(network))
    weights = {name: value.clone() for name, value in network.state().items()}
    moments = {name: value.clone() for name, value in learner.state().items()}
    loss = pull(network)
    seen = updated(learner, loss + torch.nan if fault == "loss" else loss * torch.inf)
    assert seen["skipped"] == 1
    for before, after in ((weights, network.state()), (moments, learner.state())):
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert updated(learner, pull(network))["skipped"] == 0
    assert all((weights[name] != value).any() for name, value in network.state().items())


def test_state_travels_and_continues_alike() -> None:
    network, learner = toy()
    other, its = toy()
    updated(learner, pull(network))
    other.load_state(network.state())
    its.load_state({name: value.clone() for name, value in learner.state().items()})
    for both, of in ((network, learner), (other, its)):
        updated(of, pull(both, 0.3))
    assert all(torch.equal(value, other.state()[name]) for name, value in network.state().items())


def test_weights_without_a_gradient_have_no_state_and_continue_alike() -> None:
    network, learner = toy()
    idle, moved = network.named_parameters()["log_var_ND"], network.named_parameters()["mean_ND"]
    before = idle.detach().clone()
    updated(learner, moved.sum())
    state = learner.state()
    assert {name.split("/")[0] for name in state} == {"mean_ND"}
    learner.load_state({name: value.clone() for name, value in state.items()})
    updated(learner, moved.sum())
    assert torch.equal(idle, before)


def test_before_the_first_update_there_is_no_state() -> None:
    network, learner = toy()
    assert learner.state() == {}
    updated(learner, pull(network))
    learner.load_state({})
    assert learner.state() == {}


def test_the_state_of_other_parameters_is_refused() -> None:
    network, learner = toy()
    updated(learner, pull(network))
    state = dict(learner.state())
    state.popitem()
    with pytest.raises(RunError, match="other parameters"):
        learner.load_state(state)


def test_a_learner_over_a_frozen_role_is_our_mistake() -> None:
    cast = assemble(tiny(), StudentPlan(), CriticPlan(), TeachersSpec(), iterations=1, draw=Draw(0))
    with pytest.raises(AssertionError, match="nothing to learn"):
        Learner(cast.teachers.teachers["base"].network, StudentPlan())


# ---- the average


def test_the_average_is_exponential() -> None:
    network, _ = toy()
    start = {name: value.clone() for name, value in network.state().items()}
    average = Average(network, 0.9)
    for i in (1.0, 2.0):
        with torch.no_grad():
            for name, p in network.named_parameters().items():
                p.copy_(start[name] + i)
        average.update()
    for name, value in average.mean.items():
        torch.testing.assert_close(value, start[name] + 0.9 * 0.1 * 1 + 0.1 * 2)


def test_no_decay_is_the_raw_student() -> None:
    network, learner = toy()
    average = Average(network, 0.0)
    updated(learner, pull(network))
    average.update()
    assert all(torch.equal(value, network.state()[name]) for name, value in average.mean.items())


def test_the_student_has_its_own_weights_again_after_being_looked_at() -> None:
    network, learner = toy()
    average = Average(network, 0.9)
    updated(learner, pull(network))
    average.update()
    own = {name: value.clone() for name, value in network.state().items()}
    with average.applied():
        assert all(torch.equal(value, average.mean[name]) for name, value in network.state().items())
    assert all(torch.equal(value, own[name]) for name, value in network.state().items())
    with pytest.raises(ZeroDivisionError), average.applied():
        1 // 0  # noqa: B018 - an examiner that fails
    assert all(torch.equal(value, own[name]) for name, value in network.state().items())
    assert any((value != average.mean[name]).any() for name, value in network.state().items())
