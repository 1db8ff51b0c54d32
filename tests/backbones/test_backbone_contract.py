"""What every backbone promises to those above it, whatever stands behind it."""

import re
from dataclasses import replace

import pytest
import torch

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.conditioning import Conditioning, stack
from fewstep.backbones.encode_request import EncodeRequest
from fewstep.runtime.errors import LayoutError
from tests.backbones.families import (
    EDIT,
    EDIT_TWO,
    EDIT_UNEQUAL,
    FAMILIES,
    SIZE,
    T2I,
    T2I_UNEQUAL,
    Request,
    noise_for,
    picture,
)

ASKED = pytest.mark.parametrize("asked", [T2I, T2I_UNEQUAL, EDIT, EDIT_TWO], ids=lambda r: r.name)


def velocity_of(backbone: Backbone, cond: Conditioning, t: float = 0.6, cached: bool = False) -> torch.Tensor:
    prefix = backbone.prefix(backbone.transformer, cond) if cached else None
    z_BND = noise_for(backbone, cond)
    return backbone.velocity(backbone.transformer, z_BND, torch.full((len(cond),), t), cond, prefix)


@ASKED
def test_conditioning(backbone: Backbone, asked: Request) -> None:
    made = backbone.encode(asked.prompts, asked.references or None, asked.size)
    assert len(made) == len(asked.prompts)
    for cond in made:
        assert len(cond) == 1
        assert cond.mask_BL.dtype == torch.bool
        assert cond.layout.task == ("edit" if asked.shapes else "t2i")
        assert cond.layout.target == backbone.layout_grid(asked.size)
        assert len(cond.layout.references) == len(asked.shapes)
        assert len(cond.layout.slots) in (0, len(asked.shapes)), "of all references, or of none"
        assert not cond.text_BLC.requires_grad


@pytest.mark.parametrize("pictures", [0, 1, 2])
def test_a_batch_is_encoded_as_one_by_one(backbone: Backbone, pictures: int) -> None:
    """References of two shapes in turn, so that neighbours are not alike, and texts of several lengths."""
    count = min(pictures, backbone.max_references)
    shapes = [(96, 64), (66, 160), (96, 64)]
    requests = [
        EncodeRequest(prompts, tuple(picture(*shapes[n], seed=10 * n + m) for m in range(count)), SIZE)
        for n, prompts in enumerate([("a cat", ""), ("a longer text about a boat",), ("as it is at night",)])
    ]
    together = backbone.encode_batch(requests)
    for request, conds in zip(requests, together, strict=True):
        alone = backbone.encode(request.prompts, request.references or None, request.size)
        for ours, one in zip(conds, alone, strict=True):
            assert ours.layout == one.layout
            torch.testing.assert_close(ours.text_BLC, one.text_BLC, rtol=1e-4, atol=1e-4)
            if one.references_BRD is not None:
                torch.testing.assert_close(ours.references_BRD, one.references_BRD, rtol=1e-4, atol=1e-5)


@ASKED
def test_velocity_shape_dtype_and_repeatability(backbone: Backbone, asked: Request) -> None:
    cond = asked.conditioning(backbone)
    v_BND = velocity_of(backbone, cond)
    assert v_BND.shape == (len(cond), *backbone.noise_shape(cond.layout))
    assert v_BND.dtype == torch.float32
    assert torch.isfinite(v_BND).all()
    assert torch.equal(v_BND, velocity_of(backbone, cond))


@ASKED
def test_prefix_changes_nothing(backbone: Backbone, asked: Request) -> None:
    """One prefix serves every t."""
    cond = asked.conditioning(backbone)
    prefix = backbone.prefix(backbone.transformer, cond)
    z_BND = noise_for(backbone, cond)
    for t in (0.02, 0.5, 1.0):
        t_B = torch.full((len(cond),), t)
        want = backbone.velocity(backbone.transformer, z_BND, t_B, cond)
        torch.testing.assert_close(
            backbone.velocity(backbone.transformer, z_BND, t_B, cond, prefix), want, rtol=0, atol=1e-5
        )


@ASKED
def test_each_sample_has_its_own_time(backbone: Backbone, asked: Request) -> None:
    cond = asked.conditioning(backbone)
    cond = stack([cond, cond])
    z_BND, t_B = noise_for(backbone, cond), torch.linspace(0.1, 0.9, len(cond))
    together = backbone.velocity(backbone.transformer, z_BND, t_B, cond)
    for i in range(len(cond)):
        alone = backbone.velocity(backbone.transformer, z_BND[i : i + 1], t_B[i : i + 1], cond.rows([i]))
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-5)


def test_what_stands_in_the_padding_does_not_matter(backbone: Backbone) -> None:
    cond = T2I_UNEQUAL.conditioning(backbone)
    if any(family.name == backbone.family and family.one_length for family in FAMILIES):
        assert cond.mask_BL.all(), "texts of one length leave no padding"
        return
    assert not cond.mask_BL.all()
    loud = replace(cond, text_BLC=cond.text_BLC.masked_fill(~cond.mask_BL[..., None], 30.0))
    torch.testing.assert_close(velocity_of(backbone, loud), velocity_of(backbone, cond), rtol=0, atol=1e-5)
    torch.testing.assert_close(velocity_of(backbone, loud, cached=True), velocity_of(backbone, cond), rtol=0, atol=1e-5)


@pytest.mark.parametrize("cached", [False, True], ids=["whole", "cached"])
@pytest.mark.parametrize("asked", [T2I_UNEQUAL, EDIT_UNEQUAL], ids=lambda r: r.name)
def test_a_text_beside_a_longer_one_is_answered_as_alone(backbone: Backbone, asked: Request, cached: bool) -> None:
    """A student is sampled with its prompt alone, so it must be trained as if each prompt were alone."""
    every = backbone.encode(asked.prompts, asked.references or None, asked.size)
    together = velocity_of(backbone, stack(every), cached=cached)
    z_BND = noise_for(backbone, stack(every))
    for i, cond in enumerate(every):
        prefix = backbone.prefix(backbone.transformer, cond) if cached else None
        alone = backbone.velocity(backbone.transformer, z_BND[i : i + 1], torch.full((1,), 0.6), cond, prefix)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-5)


def test_conditioning_matters(backbone: Backbone) -> None:
    """Prompt, each reference, their order and t all change the answer."""
    asked = EDIT_TWO.within(backbone)
    base, own = velocity_of(backbone, asked.conditioning(backbone)), asked.references
    others = [(["another order"], own, 0.6), (asked.prompts, own, 0.3)]
    for i, shape in enumerate(asked.shapes):
        others.append((asked.prompts, [*own[:i], picture(*shape, 9), *own[i + 1 :]], 0.6))
    for prompts, references, t in others:
        other = velocity_of(backbone, stack(backbone.encode(prompts, references or None, SIZE)), t)
        assert (other - base).abs().max() > 1e-4


def test_negative_prompt_has_the_layout_of_the_prompt(backbone: Backbone) -> None:
    """The null condition of an edit keeps the references: both branches share one layout."""
    for asked in (T2I, EDIT_TWO.within(backbone)):
        (negative,) = backbone.encode([""], asked.references or None, asked.size)
        assert negative.layout == asked.conditioning(backbone).layout
        assert negative.text_BLC.shape[1] > 0


def test_mixed_layouts_and_sizes_off_the_grid_are_refused(backbone: Backbone) -> None:
    if backbone.max_references:
        with pytest.raises(LayoutError, match="one layout"):
            stack([T2I.conditioning(backbone), EDIT.conditioning(backbone)])
    with pytest.raises(LayoutError, match="one layout"):
        stack([T2I.conditioning(backbone), replace(T2I, size=(64, 64)).conditioning(backbone)])
    for size in [(64, 65), (0, 64), (-64, 64), (72, 72)]:
        with pytest.raises(LayoutError, match=f"multiples of {backbone.size_multiple} px"):
            backbone.encode(["x"], None, size)


def test_a_target_of_another_size_is_our_mistake(backbone: Backbone) -> None:
    cond = T2I.conditioning(backbone)
    z_BND = torch.zeros(1, 2 * cond.layout.target_tokens, backbone.latent_channels)
    with pytest.raises(AssertionError):
        backbone.velocity(backbone.transformer, z_BND, torch.ones(1), cond)


def test_pictures_go_in_and_come_out(backbone: Backbone) -> None:
    height, width = SIZE
    images = [picture(width, height, i) for i in range(2)]
    latents_BND = backbone.encode_images(images, SIZE)
    assert latents_BND.shape == (2, *backbone.noise_shape(T2I.conditioning(backbone).layout))
    assert not latents_BND.requires_grad
    assert (latents_BND[0] - latents_BND[1]).abs().max() > 1e-3
    assert [p.size for p in backbone.decode(latents_BND, backbone.layout_grid(SIZE))] == [(width, height)] * 2


@pytest.mark.parametrize("asked", [EDIT], ids=lambda r: r.name)
def test_references_are_encoded_like_pictures(backbone: Backbone, asked: Request) -> None:
    """The latents of a reference are those of the picture on its own, whatever stands beside it."""
    height, width = SIZE
    images = [picture(width, height, i) for i in range(min(2, backbone.max_references))]
    (cond,) = backbone.encode(asked.prompts, images, SIZE)
    want = torch.cat([backbone.encode_images([image], SIZE) for image in images], dim=1)
    assert cond.references_BRD is not None
    torch.testing.assert_close(cond.references_BRD, want, rtol=0, atol=1e-6)


def test_adapters_find_their_modules(backbone: Backbone) -> None:
    """Each target is the end of at least one linear layer's name. Attention is a part of both."""
    linears = [name for name, module in backbone.transformer.named_modules() if isinstance(module, torch.nn.Linear)]
    for target in backbone.lora_targets:
        assert [name for name in linears if re.search(rf"(^|\.){re.escape(target)}$", name)], target
    assert set(backbone.attention_targets) <= set(backbone.lora_targets)
    assert bool(backbone.attention_targets) == bool(backbone.lora_targets)


def test_arrives_frozen_and_in_eval_mode(backbone: Backbone) -> None:
    assert not backbone.transformer.training
    assert not any(p.requires_grad for p in backbone.transformer.parameters())


def test_plain_facts(backbone: Backbone) -> None:
    assert backbone.size_multiple % backbone.pixels_per_token == 0
    assert len(backbone.sampling_grid(backbone.default_steps, (4, 4))) == backbone.default_steps
    assert backbone.fingerprint() == backbone.fingerprint()
    assert backbone.device.type == "cpu"
