"""Compiled blocks of every family: whole, without a break in what torch traces, and with the same gradients through
every kind of prefix."""

from typing import Any

import pytest
import torch

from fewstep.backbones.blocks import blocks
from fewstep.roles.compilation import compile_blocks
from fewstep.roles.recomputation import Recomputation, recompute
from tests.backbones.families import T2I, Family, Request
from tests.backbones.test_gradients import assert_same, gradients

EDIT_UNEQUAL = Request("edit, unequal prompts", ["darker", "as it would look at night"], [(64, 64)], (64, 64))


# torch looks at inner tensors' gradients as it traces, and hides its own warning of it where warnings are no errors.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


@pytest.fixture(autouse=True)
def _nothing_compiled_before() -> None:
    torch._dynamo.reset()


def pair(family: Family) -> tuple[Any, Any]:
    """Two of one model; all weights learn, and the second is to be compiled."""
    made: list[Any] = [family.make(), family.make()]
    for backbone in made:
        backbone.transformer.requires_grad_(True)
    compile_blocks(made[1].transformer, backend="eager")
    return made[0], made[1]


def test_the_velocity_and_its_gradient_stay_what_they_are(family: Family) -> None:
    plain, fast = pair(family)
    assert len(list(blocks(fast.transformer))) > 1
    v, want = gradients(plain, T2I, "none")
    v_fast, got = gradients(fast, T2I, "none")
    torch.testing.assert_close(v_fast, v, rtol=0, atol=1e-5)
    assert_same(got, want)


def test_so_they_do_with_recomputation_chosen_by_operation(family: Family) -> None:
    plain, fast = pair(family)
    recompute(fast.transformer, "selective")
    v, want = gradients(plain, T2I, "none")
    v_fast, got = gradients(fast, T2I, "none")
    torch.testing.assert_close(v_fast, v, rtol=0, atol=1e-5)
    assert_same(got, want)


@pytest.mark.parametrize("how", ["full", "selective"])
@pytest.mark.parametrize("prefix", ["full", "stopped"])
def test_so_they_do_through_a_prefix(caching: Family, prefix: str, how: Recomputation) -> None:
    plain, fast = pair(caching)
    recompute(fast.transformer, how)
    v, want = gradients(plain, EDIT_UNEQUAL, prefix)
    v_fast, got = gradients(fast, EDIT_UNEQUAL, prefix)
    torch.testing.assert_close(v_fast, v, rtol=0, atol=1e-5)
    assert_same(got, want)


@pytest.mark.parametrize("how", ["off", "selective"])
def test_learning_from_texts_of_all_lengths_compiles_no_more_either(caching: Family, how: Recomputation) -> None:
    backbone: Any = caching.make()
    backbone.transformer.requires_grad_(True)
    counted = torch._dynamo.testing.CompileCounter()
    compile_blocks(backbone.transformer, counted)
    recompute(backbone.transformer, how)
    frames = []
    for words in range(2, 7):
        cond = Request("t2i", ["word " * words], size=(64, 64)).conditioning(backbone)
        z_BND = torch.zeros(1, cond.layout.target_tokens, backbone.latent_channels)
        backbone.velocity(backbone.transformer, z_BND, torch.ones(1), cond).sum().backward()
        frames.append(counted.frame_count)
    assert frames == [1, 2, 2, 2, 2], "the blocks share it: for the first length, and for all others"


def test_texts_of_all_lengths_share_what_was_compiled(caching: Family) -> None:
    """Twice at most: for the first length, and for all others."""
    backbone: Any = caching.make()
    counted = torch._dynamo.testing.CompileCounter()
    compile_blocks(backbone.transformer, counted)
    frames = []
    with torch.no_grad():
        for words in range(2, 7):
            cond = Request("t2i", ["word " * words], size=(64, 64)).conditioning(backbone)
            held = backbone.prefix(backbone.transformer, cond)
            z_BND = torch.zeros(1, cond.layout.target_tokens, backbone.latent_channels)
            for prefix in (None, held):
                backbone.velocity(backbone.transformer, z_BND, torch.ones(1), cond, prefix)
            frames.append(counted.frame_count)
    assert frames[0] == 3  # made, left out, used
    assert frames[1:] == [frames[1]] * 4
    assert frames[1] <= 6
