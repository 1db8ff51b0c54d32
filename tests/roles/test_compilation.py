"""Compiled blocks: the same answers and gradients under every role, whichever was on before, and a clear error where
nothing can be compiled. torch traces and guards here as ever, but makes no code of it: that takes minutes, and is what
benchmarks/compilation.py looks at."""

import sys
import sysconfig
from pathlib import Path

import pytest
import torch

from fewstep.roles.compilation import compile_blocks, refuse_without_compiler
from fewstep.run.launch import distill_recipe
from fewstep.run.recipe import load_recipe
from fewstep.runtime.errors import EnvironmentRefused
from tests.roles.test_gradient_routing import T, gradients, loss_of, roles_of
from tests.train.tiny_model import batch, normal

# torch looks at inner tensors' gradients as it traces, and hides its own warning of it where warnings are no errors.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


@pytest.fixture(autouse=True)
def _nothing_compiled_before() -> None:
    torch._dynamo.reset()


def test_roles_in_any_order_have_the_gradient_of_blocks_that_are_not_compiled() -> None:
    """Each loss asks the other roles between its forward and its backward, which runs blocks again."""
    plain, fast = (roles_of("adapter", "full", "bf16") for _ in range(2))
    for network in fast.networks:
        compile_blocks(network.transformer, backend="eager")
    for role in ("student", "critic", "student", "critic"):
        want, got = (gradients(c.student if role == "student" else c.critic, loss_of(c, role)) for c in (plain, fast))
        assert got.keys() == want.keys()
        largest = max(float(g.abs().max()) for g in want.values())
        for name, g in want.items():
            torch.testing.assert_close(got[name], g, rtol=0, atol=1e-5 * largest)
        for roles in (plain, fast):
            for parameter in (*roles.student.parameters(), *roles.critic.parameters()):
                parameter.grad = None


def test_roles_with_recomputation_chosen_by_operation_have_that_gradient_too() -> None:
    """Recomputed inside the compiled block, under whichever role is on; in turns with forwards that recompute none."""
    plain, fast = roles_of("adapter", "off", "fp32"), roles_of("adapter", "selective", "fp32")
    counted = torch._dynamo.testing.CompileCounter()
    for network in fast.networks:
        compile_blocks(network.transformer, counted)
    frames = []
    for role in ("student", "critic", "student", "critic"):
        want, got = (gradients(c.student if role == "student" else c.critic, loss_of(c, role)) for c in (plain, fast))
        largest = max(float(g.abs().max()) for g in want.values())
        for name, g in want.items():
            torch.testing.assert_close(got[name], g, rtol=0, atol=1e-5 * largest)
        frames.append(counted.frame_count)
        for roles in (plain, fast):
            for parameter in (*roles.student.parameters(), *roles.critic.parameters()):
                parameter.grad = None
    assert frames[1:] == [frames[1]] * 3, "both roles, with gradient and without, were compiled by then"


def test_a_switch_of_roles_compiles_once_for_each_role() -> None:
    roles, counted = roles_of("adapter"), torch._dynamo.testing.CompileCounter()
    compile_blocks(roles.student.transformer, counted)
    cond = batch(0).cond
    frames = []
    for _ in range(2):
        for network in (roles.student, roles.critic, roles.teachers.teachers["base"].network):
            with torch.no_grad():
                network.velocity(normal(2, 4, 8), T, cond)
            frames.append(counted.frame_count)
    assert frames == [1, 2, 3, 3, 3, 3]


def test_compiling_is_no_other_recipe() -> None:
    assert load_recipe("pocket", ["run.compile=true"]).fingerprint() == load_recipe("pocket").fingerprint()


@pytest.mark.parametrize(
    ("device", "lack", "remedy"),
    [
        ("cpu", "compilers", r"run\.compile is true, but torch compiles for CPUs with g\+\+-99, .* Install it"),
        ("cpu", "headers", r"includes Python\.h, .*python3-dev"),
        ("cuda", "compilers", r"through triton, .* Install triton .*run\.compile: false"),
    ],
)
def test_on_a_machine_that_cannot_compile_the_error_names_what_to_install(
    device: str, lack: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("triton may be here")
    monkeypatch.setenv("CXX", "g++-99" if lack == "compilers" else sys.executable)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(EnvironmentRefused, match=remedy):
        refuse_without_compiler(torch.device(device))


def test_a_run_is_refused_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "g++-99")
    with pytest.raises(EnvironmentRefused, match=r"run\.compile"):
        distill_recipe(load_recipe("pocket", ["run.compile=true", "run.device=cpu"]), tmp_path / "run")
    assert not list(tmp_path.iterdir())
