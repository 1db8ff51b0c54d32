"""The forward on a sequence that the host knows, against the stock forward, which reads it off a mask."""

import copy
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.backbones.joint_sequence import build_joint_sequence, forward_joint
from fewstep.backbones.layout import Layout
from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.backbones.stock import QwenImage21KVCache
from fewstep.flow.rng import NamedRNG

RNG, TEXTS, TARGET = NamedRNG(3), 5, (2, 4)
LAYOUTS = {
    "t2i": Layout("t2i", TARGET),
    "edit": Layout("edit", TARGET, ((4, 2),), (3,)),
    "no text before it": Layout("edit", TARGET, ((2, 2),), (0,)),
    "two without text between": Layout("edit", TARGET, ((2, 2), (4, 4)), (2, 2)),
    "no text after": Layout("edit", TARGET, ((2, 2),), (TEXTS,)),
}


@pytest.fixture(scope="module")
def transformer() -> Any:
    return QwenImage21.tiny().transformer


@pytest.fixture(params=LAYOUTS.values(), ids=list(LAYOUTS))
def layout(request: pytest.FixtureRequest) -> Layout:
    return request.param


@pytest.fixture(params=[False, True], ids=["whole", "padded"])
def mask_BL(request: pytest.FixtureRequest) -> Tensor | None:
    return torch.tensor([[True] * TEXTS, [True] * (TEXTS - 2) + [False] * 2]) if request.param else None


def lengths(mask_BL: Tensor | None) -> list[int]:
    return [TEXTS] * 2 if mask_BL is None else mask_BL.sum(1).tolist()


def given(transformer: Any, layout: Layout) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """Target, references, text and times of two samples."""
    width, channels = transformer.config.context_in_dim, transformer.config.in_channels
    references = RNG.normal((2, layout.reference_tokens, channels), "references") if layout.references else None
    text_BLC = RNG.normal((2, TEXTS, width), "text")
    return RNG.normal((2, layout.target_tokens, channels), "z"), references, text_BLC, torch.tensor([0.25, 0.75])


def with_slots(x_BL: Tensor, layout: Layout, fill: float) -> Tensor:
    """`fill` at the image slots, one for 2 x 2 tokens, as the text encoder's sequence has them."""
    cuts, pieces = [0, *layout.slots, x_BL.shape[1]], []
    for number, (start, end) in enumerate(pairwise(cuts)):
        pieces.append(x_BL[:, start:end])
        if number < len(layout.references):
            rows, columns = layout.references[number]
            pieces.append(x_BL.new_full((len(x_BL), rows * columns // 4, *x_BL.shape[2:]), fill))
    return torch.cat(pieces, dim=1)


def stock(
    transformer: Any,
    layout: Layout,
    mask_BL: Tensor | None,
    caches: list[QwenImage21KVCache] | None = None,
    mode: str | None = None,
) -> Tensor:
    """The stock forward of each sample alone, with its own text and nothing else. caches: one for each sample."""
    z_BND, references, text_BLC, t_B = given(transformer, layout)
    answers = []
    for b, length in enumerate(lengths(mask_BL)):
        row, texts = slice(b, b + 1), text_BLC[b : b + 1, :length]
        marks_BS = with_slots(torch.zeros(1, length, dtype=torch.bool), layout, True)
        answers.append(
            transformer(
                hidden_states=torch.cat([z_BND[row]] if references is None else [references[row], z_BND[row]], dim=1),
                timestep=t_B[row],
                encoder_hidden_states=with_slots(texts, layout, 0.0),
                img_shapes=[[(1, *grid) for grid in (*layout.references, TARGET)]],
                img_mask=torch.cat([marks_BS, marks_BS.new_ones(1, layout.target_tokens // 4)], dim=1),
                kv_cache=None if caches is None else caches[b],
                kv_cache_mode=mode,
                return_dict=False,
            )[0][:, -layout.target_tokens :]
        )
    return torch.cat(answers)


def joint(transformer: Any, layout: Layout, mask_BL: Tensor | None, cache: Any = None, mode: Any = None) -> Tensor:
    z_BND, references, text_BLC, t_B = given(transformer, layout)
    return forward_joint(
        transformer, z_BND, references, text_BLC, mask_BL, lengths(mask_BL), t_B, layout, TARGET, cache, mode
    )


def same(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_it_answers_as_the_stock_forward(transformer: Any, layout: Layout, mask_BL: Tensor | None) -> None:
    refuse_slots_in_padding(layout, mask_BL)
    same(joint(transformer, layout, mask_BL), stock(transformer, layout, mask_BL))


def test_prefix_and_target_apart(transformer: Any, layout: Layout, mask_BL: Tensor | None) -> None:
    refuse_slots_in_padding(layout, mask_BL)
    blocks = len(transformer.transformer_blocks)
    ours, theirs = QwenImage21KVCache(blocks), [QwenImage21KVCache(blocks) for _ in range(2)]
    for mode in ("extract", "cached"):
        same(joint(transformer, layout, mask_BL, ours, mode), stock(transformer, layout, mask_BL, theirs, mode))
    for b, alone in enumerate(theirs):  # padding stands behind what each sample has alone
        for mine, its in zip(ours.layer_caches, alone.layer_caches, strict=True):
            held = its.k.shape[1]
            same(mine.k[b : b + 1, :held], its.k)
            same(mine.v[b : b + 1, :held], its.v)


def refuse_slots_in_padding(layout: Layout, mask_BL: Tensor | None) -> None:
    if mask_BL is not None and max(layout.slots, default=0) > min(lengths(mask_BL)):
        pytest.skip("samples of one batch share their slots, which lie in the text of each")


@pytest.mark.parametrize("mode", ["whole", "cached"])
def test_each_target_stands_after_its_own_text(transformer: Any, mode: str) -> None:
    """Wherever the padded text ends: a third, longer text beside the two changes neither's answer."""
    z_BND, _, text_BLC, t_B = given(transformer, LAYOUTS["t2i"])
    longer = torch.cat([text_BLC, text_BLC.new_full((2, 7, text_BLC.shape[2]), 9.0)], dim=1)
    mask_BL = (torch.arange(longer.shape[1]) < TEXTS).expand(2, -1)
    cache = QwenImage21KVCache(len(transformer.transformer_blocks)) if mode == "cached" else None
    for part in ("extract", "cached") if cache else (None,):
        padded = forward_joint(
            transformer, z_BND, None, longer, mask_BL, [TEXTS] * 2, t_B, LAYOUTS["t2i"], TARGET, cache, part
        )
        same(padded, joint(transformer, LAYOUTS["t2i"], None))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_its_gradients_are_the_stock_forwards(transformer: Any, checkpointing: bool) -> None:
    own = copy.deepcopy(transformer).requires_grad_(True)
    if checkpointing:
        own.enable_gradient_checkpointing()
    layout, found = LAYOUTS["edit"], []
    for forward in (joint, stock):
        own.zero_grad()
        forward(own, layout, None).square().mean().backward()
        found.append({name: p.grad.clone() for name, p in own.named_parameters() if p.grad is not None})
    ours, theirs = found
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-4, atol=1e-7)


def test_a_copy_runs_its_own_weights(transformer: Any) -> None:
    layout = LAYOUTS["t2i"]
    before = joint(transformer, layout, None)
    twin = copy.deepcopy(transformer)
    with torch.no_grad():
        twin.proj_out.weight.zero_()
    assert not joint(twin, layout, None).any()
    assert torch.equal(joint(transformer, layout, None), before)


def test_hooks_on_the_module_run(transformer: Any) -> None:
    calls = []
    handle = transformer.register_forward_pre_hook(lambda *_: calls.append(1))
    joint(transformer, LAYOUTS["t2i"], None)
    handle.remove()
    assert calls == [1]


def test_what_the_layout_settles_is_made_once() -> None:
    arguments = (LAYOUTS["edit"], TEXTS, TARGET, 10000, (8, 12, 12), torch.device("cpu"))
    first = build_joint_sequence(*arguments)
    assert build_joint_sequence(*arguments) is first
    assert first.segments == ((0, 3, True), (3, 11, False), (11, 13, True))
    assert first.prefix_tokens == 13
    assert first.is_target_S.tolist() == [False] * 13 + [True] * 8
    with pytest.raises(AssertionError, match="where their slots are"):
        build_joint_sequence(Layout("edit", TARGET, ((2, 2),)), *arguments[1:])
