"""Where the gradient goes: each role's loss moves that role alone - as adapter and in full, with and without
recomputed activations, after any switching. On the real transformer."""

from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.flow.rng import NamedRNG
from fewstep.objective.critic import critic_loss
from fewstep.objective.dmd import dmd_loss
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.execution import Execution
from fewstep.roles.network import Network
from fewstep.roles.plan import (
    AdapterPlan,
    CriticPlan,
    StudentPlan,
    TeachersSpec,
)
from fewstep.roles.recomputation import Recomputation
from fewstep.roles.roles import Roles
from fewstep.roles.step_index import StepIndex
from fewstep.train.role_optimizer import RoleOptimizer
from tests.train.tiny_model import batch, normal, tiny

PLAN = AdapterPlan(rank=4, alpha=4.0)
T = torch.tensor([0.7, 0.3])
MODES = ["adapter", "full", "adapter-full", "full-adapter"]
RECOMPUTED: list[Recomputation] = ["off", "selective", "full"]


def modes(mode: str) -> tuple[Any, Any]:
    """Of student and critic."""
    return (mode, mode) if "-" not in mode else tuple(mode.split("-"))  # type: ignore[return-value]


def roles_of(
    mode: str, checkpointing: Recomputation = "off", precision: str = "fp32", dtype: torch.dtype = torch.float32
) -> Roles:
    """mode: of both, or as student-critic."""
    of_student, of_critic = modes(mode)
    student, critic = StudentPlan(mode=of_student, adapter=PLAN), CriticPlan(mode=of_critic, adapter=PLAN)
    roles = build_roles(
        tiny(dtype),
        RolesSpec(student, critic, TeachersSpec(), 4),
        NamedRNG(0),
        Execution(precision=precision, gradient_checkpointing=checkpointing),
    )
    with torch.no_grad():
        for network in (roles.student, roles.critic):  # as after some training: at first all roles are the base
            for name, weight in network.named_parameters().items():
                if "lora_A" not in name:
                    weight.add_(
                        (0.1 if "lora_B" in name else 0.02) * NamedRNG(2).normal(weight.shape, network.name + name)
                    )
    return roles


def student_loss(roles: Roles) -> Tensor:
    """One student loss as an iteration forms it: other roles answer between its forward and its backward."""
    given = batch(1)
    z = normal(2, 4, 8)
    x0 = z - T[:, None, None] * roles.student.velocity(z, T, given.cond)
    v_real = roles.teachers.velocity(z, T, given, StepIndex(0, 0))
    with torch.no_grad():
        v_fake = roles.critic.velocity(z, T, given.cond)
    return dmd_loss(x0, z, T, v_real, v_fake, 0.05)[0]


def loss_of(roles: Roles, role: str) -> Tensor:
    if role == "student":
        return student_loss(roles)
    return critic_loss(roles.critic.bind(batch(1).cond), normal(2, 4, 8), normal(2, 4, 8, name="e"), T)[0]


def every(roles: Roles) -> dict[str, Tensor]:
    """All weights there are: the shared base with its adapters, or the copies."""
    networks = (roles.student, roles.critic, *(teacher.network for teacher in roles.teachers.teachers.values()))
    return {f"{id(n.transformer)} {name}": p for n in networks for name, p in n.transformer.named_parameters()}


def gradients(network: Network, loss: Tensor) -> dict[str, Tensor]:
    with network.active():
        loss.backward()
    return {name: p.grad for name, p in network.named_parameters().items() if p.grad is not None}


@pytest.mark.parametrize("role", ["student", "critic"])
@pytest.mark.parametrize("checkpointing", RECOMPUTED)
@pytest.mark.parametrize("mode", MODES)
def test_a_loss_moves_its_own_role_alone(mode: str, checkpointing: Recomputation, role: str) -> None:
    roles = roles_of(mode, checkpointing)
    network = roles.student if role == "student" else roles.critic
    moved = gradients(network, loss_of(roles, role))
    assert moved.keys() == network.named_parameters().keys()
    idle = [name for name, g in moved.items() if not g.any()]
    assert not idle, idle
    own = {id(p) for p in network.parameters()}
    assert not [name for name, p in every(roles).items() if p.grad is not None and id(p) not in own]


@pytest.mark.parametrize("how", RECOMPUTED[1:])
@pytest.mark.parametrize("role", ["student", "critic"])
@pytest.mark.parametrize("mode", MODES)
def test_recomputed_activations_give_the_same_gradient(mode: str, role: str, how: Recomputation) -> None:
    """Recomputed under another role they would not: see the next test."""
    stored, recomputed = (roles_of(mode, checkpointing) for checkpointing in ("off", how))
    grads = [gradients(c.student if role == "student" else c.critic, loss_of(c, role)) for c in (stored, recomputed)]
    for name, g in grads[0].items():
        torch.testing.assert_close(g, grads[1][name], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("how", RECOMPUTED[1:])
def test_recomputing_under_another_role_is_an_error_or_another_gradient(how: Recomputation) -> None:
    """What RoleOptimizer.backward guards against by holding the role through backward."""
    roles, wrong = roles_of("adapter"), roles_of("adapter", checkpointing=how)
    right = gradients(roles.student, student_loss(roles))
    loss = student_loss(wrong)
    with wrong.critic.active():
        loss.backward()
    got = {n: p.grad for n, p in wrong.student.named_parameters().items() if p.grad is not None}
    assert got.keys() != right.keys() or any(not torch.allclose(got[n], right[n], rtol=1e-3) for n in right)


@pytest.mark.parametrize("mode", MODES)
def test_an_update_moves_its_own_role_alone(mode: str) -> None:
    roles = roles_of(mode, checkpointing="full")
    role_optimizers = {
        "student": RoleOptimizer(roles.student, StudentPlan(mode=modes(mode)[0])),
        "critic": RoleOptimizer(roles.critic, CriticPlan(mode=modes(mode)[1])),
    }
    for role, role_optimizer in role_optimizers.items():
        before = {name: p.detach().clone() for name, p in every(roles).items()}
        role_optimizer.backward(loss_of(roles, role))
        role_optimizer.step()
        own = {id(p) for p in role_optimizer.network.parameters()}
        for name, p in every(roles).items():
            assert (id(p) in own) == bool((p != before[name]).any()), name
        assert all(p.grad is None for p in every(roles).values())


def test_optimizers_share_nothing() -> None:
    for mode in MODES:
        roles = roles_of(mode)
        student, critic = ({id(p) for p in n.parameters()} for n in (roles.student, roles.critic))
        assert student
        assert critic
        assert not student & critic


@pytest.mark.parametrize("mode", MODES)
def test_autocast_without_gradient_leaves_the_next_gradient_whole(mode: str) -> None:
    """Autocast may keep casts of weights; one made under no_grad and reused would cut the gradient off in silence
    (torch 2.13 itself no longer does; the cache is off all the same)."""
    roles = roles_of(mode, precision="bf16", dtype=torch.bfloat16 if mode == "adapter" else torch.float32)
    z, cond = normal(2, 4, 8), batch(0).cond
    caching: list[bool] = []
    roles.student.transformer.img_in.register_forward_hook(lambda *_: caching.append(torch.is_autocast_cache_enabled()))
    with torch.autocast("cpu", torch.bfloat16):  # even inside someone's own autocast, with its cache
        with torch.no_grad():
            roles.student.velocity(z, T, cond)
        loss = roles.student.velocity(z, T, cond).square().mean()
    moved = gradients(roles.student, loss)
    assert caching == [False, False]
    assert moved.keys() == roles.student.named_parameters().keys()
    assert all(g.any() for g in moved.values())
    assert {g.dtype for g in moved.values()} == {torch.float32}


@pytest.mark.parametrize("mode", MODES)
def test_both_modes_learn_in_fp32_and_start_as_the_teacher(mode: str) -> None:
    of_student, of_critic = modes(mode)
    student, critic = StudentPlan(mode=of_student, adapter=PLAN), CriticPlan(mode=of_critic, adapter=PLAN)
    backbone = tiny(torch.bfloat16)
    roles = build_roles(
        backbone, RolesSpec(student, critic, TeachersSpec(), 1), NamedRNG(0), Execution(precision="bf16")
    )
    given, z = batch(1), normal(2, 4, 8)
    assert {p.dtype for n in (roles.student, roles.critic) for p in n.parameters()} == {torch.float32}
    with torch.no_grad():
        v_real = roles.teachers.velocity(z, T, given, StepIndex(0, 0))
        for network in (roles.student, roles.critic):
            v = network.velocity(z, T, given.cond)
            assert v.dtype == torch.float32
            torch.testing.assert_close(v, v_real, rtol=5e-2, atol=5e-2)


def test_a_constant_prefix_gives_the_same_answer_and_part_of_the_gradient() -> None:
    """prefix_gradient stopped: the forward is exact; what text and references would add to the gradient is dropped."""
    whole, part = roles_of("full"), roles_of("full")
    z, cond = normal(2, 4, 8), batch(1).cond
    answers = []
    for roles, stopped in ((whole, False), (part, True)):
        with torch.no_grad():
            prefix = roles.student.prefix(cond) if stopped else None
        answers.append(roles.student.velocity(z, T, cond, prefix))
    torch.testing.assert_close(answers[0], answers[1], rtol=1e-4, atol=1e-5)
    full, stopped_ = (gradients(c.student, a.square().mean()) for c, a in zip((whole, part), answers, strict=True))
    a, b = (torch.cat([g[n].flatten() for n in full if n in stopped_]) for g in (full, stopped_))
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=0)
    assert 0.7 < cosine < 0.9999
    assert "txt_in.in_layer.weight" in full
    assert not stopped_.get("txt_in.in_layer.weight", torch.zeros(1)).any()
