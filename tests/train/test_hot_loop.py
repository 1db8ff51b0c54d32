"""What an iteration does not do twice, and that it asks the device for nothing on its way."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.host_reads import HostReads
from fewstep.encode.batch import Batch
from fewstep.flow.rng import NamedRNG
from fewstep.roles.step_index import StepIndex
from fewstep.roles.teachers import _TeacherRequest
from fewstep.train.student_rollout import StudentRollouts
from tests.train.tiny_model import ALL_EXTRA_LOSSES, batch, tiny_dmd_step


def held(transformer: nn.Module, given: Batch) -> list[Tensor]:
    """What a GPU run would hold on its device, the lengths of texts being known."""
    found = list(transformer.parameters())
    for cond in (given.cond, *given.negatives.values()):
        assert min(cond.lengths_B) > 0
        found += [cond.text_BLC, cond.mask_BL, *([] if cond.references_BRD is None else [cond.references_BRD])]
    return found


@pytest.mark.parametrize("task", ["t2i", "edit"])
def test_the_host_reads_nothing_in_the_hot_loop(task: Any) -> None:
    made, given = tiny_dmd_step(ALL_EXTRA_LOSSES), batch(0, size=3, task=task)
    made.iterate(0, 0, given)  # layouts are made at their first sight, on the host
    with HostReads(held(made.roles.student.transformer, given)) as reads:
        made.iterate(1, 2, given)
    assert not Counter(reads.found)


def test_a_read_would_be_found() -> None:
    weight = torch.rand(4)
    with HostReads([weight]) as reads:
        bool(weight.sum() > 0)
        (2 * weight).tolist()
        weight[weight > 0.5]
        torch.tensor([1.0], device="cpu")
        torch.rand(3).tolist()  # the host's own
    assert [line.split(" ")[0] for line in reads.found] == ["_local_scalar_dense", "tolist", "index", "tensor"]


@pytest.mark.parametrize(("exit_step", "steps_run"), [("same", 2), ("drawn", 4)])
def test_the_rollout_ends_where_nothing_looks_further(exit_step: str, steps_run: int) -> None:
    made, modes = tiny_dmd_step(exit_step=exit_step), []
    made.roles.student.transformer.register_forward_pre_hook(
        lambda module, args, named: modes.append(named["kv_cache_mode"]), with_kwargs=True
    )
    made.iterate(0, 1, batch(task="t2i"))
    assert modes.count("cached") == steps_run


@pytest.mark.parametrize("prefix", ["full", "stopped"])
@pytest.mark.parametrize("exit_step", ["same", "drawn"])
@pytest.mark.parametrize("extra_losses", [None, ALL_EXTRA_LOSSES], ids=["bare", "terms"])
def test_the_improved_step_is_run_once_where_asked(extra_losses: Any, exit_step: str, prefix: str) -> None:
    """The same figures and the same weights after, for one student forward less."""
    given, found, called, ended = batch(task="edit"), [], [], []
    for once in (False, True):
        made = tiny_dmd_step(extra_losses, {"forward_once": once, "prefix_gradient": prefix}, exit_step=exit_step)
        calls: Counter[str | None] = Counter()
        made.roles.student.transformer.register_forward_pre_hook(
            lambda *_, made=made, calls=calls: calls.update([made.roles.student.adapters.on])
        )
        found.append(made.iterate(0, 2, given))
        called.append(calls["student"])
        ended.append(made.roles.student.state())
    assert called[1] == called[0] - 1
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-4, atol=1e-6)
    for name, weight in ended[0].items():
        torch.testing.assert_close(
            ended[1][name], weight, rtol=0, atol=1e-6 + 0.02 * made.settings.student.learning_rate
        )


def test_extra_losses_share_prefixes_with_the_first_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """The anchor asks student and teachers again: the same figures and gradients, with one prefix each."""
    given, found, extracted = batch(task="edit"), [], []
    for apart in (False, True):
        if apart:
            monkeypatch.setattr(StudentRollouts, "_prefix", lambda self, batch: None)
            monkeypatch.setattr(_TeacherRequest, "prefix", lambda self, network, branch, cond: None)
        made, modes = tiny_dmd_step(ALL_EXTRA_LOSSES), []
        made.roles.student.transformer.register_forward_pre_hook(
            lambda module, args, named, modes=modes: modes.append(named["kv_cache_mode"]), with_kwargs=True
        )
        found.append(made.iterate(0, 2, given))
        extracted.append(modes.count("extract"))
    assert extracted[0] > extracted[1] == 1  # the rollout's alone
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-4, atol=1e-6)


def test_both_branches_of_guidance_in_one_forward() -> None:
    made = tiny_dmd_step()
    whole = batch(task="t2i")
    alike = replace(whole, negatives={"": replace(whole.cond, text_BLC=whole.cond.text_BLC.flip(0))})
    z_BND, t_B = NamedRNG(1).normal((2, 4, 8), "z"), torch.tensor([0.3, 0.8])
    teachers, velocities = made.roles.teachers, []
    for batched_cfg in (True, False):
        teachers.batched_cfg = batched_cfg
        before = sum(teachers.forwards.values())
        velocities.append(teachers.velocity(z_BND, t_B, alike, StepIndex(0, 0)))
        assert sum(teachers.forwards.values()) - before == (1 if batched_cfg else 2)
    torch.testing.assert_close(*velocities, rtol=1e-5, atol=1e-6)
