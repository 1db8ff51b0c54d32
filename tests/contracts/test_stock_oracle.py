"""The pipeline's own call is the oracle: what it hands its scheduler at every step is what `velocity` answers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from specimens import (
    EDIT,
    EDIT_TWO,
    EDIT_UNEQUAL,
    REQUESTS,
    SIZE,
    T2I,
    T2I_UNEQUAL,
    Family,
    Request,
    noise_for,
    picture,
    stock_call,
)

from fewstep.conditioning import stack
from fewstep.flow.guidance import Guidance, guided
from fewstep.flow.solver import trajectory


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "uncached"])
@pytest.mark.parametrize("asked", REQUESTS, ids=lambda r: r.name)
def test_velocity(family: Family, stock: Any, asked: Request, cached: bool) -> None:
    steps, _ = stock_call(family, stock, asked, use_kv_cache=cached)
    cond = asked.conditioning(stock)
    prefix = stock.prefix(stock.transformer, cond) if cached else None
    assert len(steps) == 3
    for step in steps:
        v = stock.velocity(stock.transformer, step.z_BND, step.t_B, cond, prefix)
        torch.testing.assert_close(v, step.v_BND, rtol=0, atol=1e-5)


@pytest.mark.parametrize("asked", [T2I_UNEQUAL, EDIT_TWO], ids=lambda r: r.name)
def test_guided_velocity(family: Family, stock: Any, asked: Request) -> None:
    negatives = ["blurry, grey"] * len(asked.prompts)
    steps, _ = stock_call(family, stock, asked, negative_prompt=negatives, true_cfg_scale=2.5)
    cond = asked.conditioning(stock)
    null = Request("negative", negatives, asked.shapes, asked.size).conditioning(stock)
    for step in steps:
        v_c, v_u = (stock.velocity(stock.transformer, step.z_BND, step.t_B, c) for c in (cond, null))
        torch.testing.assert_close(guided(v_c, v_u, Guidance(2.5)), step.v_BND, rtol=0, atol=1e-5)


@pytest.mark.parametrize("asked", [T2I, EDIT], ids=lambda r: r.name)
def test_whole_trajectory(family: Family, stock: Any, asked: Request) -> None:
    """Our solver on our grid ends where the pipeline ends."""
    steps, latents = stock_call(family, stock, asked, output_type="latent")
    cond = asked.conditioning(stock)
    grid = stock.sampling_grid(3, cond.layout.target)
    prefix = stock.prefix(stock.transformer, cond)
    end = trajectory(lambda z, t: stock.velocity(stock.transformer, z, t, cond, prefix), steps[0].z_BND, grid)[-1]
    torch.testing.assert_close(end, latents, rtol=0, atol=1e-5)


@pytest.mark.parametrize("asked", [T2I_UNEQUAL, EDIT], ids=lambda r: r.name)
def test_decoded_pictures(family: Family, stock: Any, asked: Request) -> None:
    _, latents = stock_call(family, stock, asked, output_type="latent")
    _, pictures = stock_call(family, stock, asked)
    ours = stock.decode(latents, asked.conditioning(stock).layout.target)
    assert [p.tobytes() for p in ours] == [p.tobytes() for p in pictures]
    assert all(p.mode == pictures[0].mode and p.size == asked.size[::-1] for p in ours)


@pytest.mark.parametrize("asked", [T2I_UNEQUAL, EDIT_TWO, EDIT_UNEQUAL], ids=lambda r: r.name)
def test_encoded_prompts(stock: Any, asked: Request) -> None:
    """encode is encode_prompt less the image slots, and the layout knows where those were."""
    resized = [stock._resized(image, asked.size) for image in asked.references]
    embeds, mask, slots = stock.pipeline.encode_prompt(list(asked.prompts), image=resized or None)
    mask = torch.ones_like(slots) if mask is None else mask.bool()
    for row, cond in enumerate(stock.encode(asked.prompts, asked.references or None, asked.size)):
        text = embeds[row][mask[row] & ~slots[row]]
        assert cond.text_BLC.shape[0] == 1
        assert cond.mask_BL.all()
        torch.testing.assert_close(cond.text_BLC[0], text, rtol=0, atol=0)
        starts = [i for i in range(slots.shape[1]) if slots[row, i] and not (i and slots[row, i - 1])]
        assert list(cond.layout.slots) == [int((~slots[row, :start]).sum()) for start in starts]


def test_prompts_encoded_together_or_alone(stock: Any) -> None:
    together = stock.encode(T2I_UNEQUAL.prompts, None, T2I_UNEQUAL.size)
    for prompt, cond in zip(T2I_UNEQUAL.prompts, together, strict=True):
        (alone,) = stock.encode([prompt], None, T2I_UNEQUAL.size)
        torch.testing.assert_close(cond.text_BLC, alone.text_BLC, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", ["RGBA", "RGB", "L"])
def test_references_of_any_mode(family: Family, stock: Any, mode: str) -> None:
    """Alpha reaches the VAE, and white stands behind it for the text encoder: as in the pipeline."""
    image = picture(80, 48, 3, "RGBA").convert(mode)
    steps, _ = stock_call(family, stock, Request("", ["x"]), image=[image])
    cond = stack(stock.encode(["x"], [image], SIZE))
    v = stock.velocity(stock.transformer, steps[0].z_BND, steps[0].t_B, cond)
    torch.testing.assert_close(v, steps[0].v_BND, rtol=0, atol=1e-5)


def test_a_reference_of_the_targets_shape_gets_its_size(stock: Any) -> None:
    """Else every edit would shift. Sizes whose area is no square included."""
    for size in [(64, 64), (64, 96), (832, 1216), (1664, 928), (96, 512)]:
        grid = stock._reference_grid(picture(size[1] // 2, size[0] // 2), size)
        assert grid == stock.layout_grid(size)


@pytest.mark.parametrize("asked", [T2I_UNEQUAL, EDIT], ids=lambda r: r.name)
def test_bfloat16(family: Family, tmp_path: Path, asked: Request) -> None:
    family.make().pipeline.save_pretrained(tmp_path)  # type: ignore[attr-defined]
    loaded: Any = family.load(tmp_path, torch.bfloat16, "cpu")
    steps, _ = stock_call(family, loaded, asked)
    cond = asked.conditioning(loaded)
    assert cond.text_BLC.dtype == torch.bfloat16
    prefix = loaded.prefix(loaded.transformer, cond)
    for step in steps:
        assert step.z_BND.dtype == torch.bfloat16
        cached = loaded.velocity(loaded.transformer, step.z_BND, step.t_B, cond, prefix)
        plain = loaded.velocity(loaded.transformer, step.z_BND, step.t_B, cond)
        assert cached.dtype == torch.bfloat16
        torch.testing.assert_close(cached, step.v_BND, rtol=0, atol=1e-3)
        torch.testing.assert_close(plain, step.v_BND, rtol=0, atol=5e-2)
        full = loaded.velocity(loaded.transformer, step.z_BND.float(), step.t_B, cond)
        assert full.dtype == torch.float32, "the answer has z's dtype, whatever the weights have"


@pytest.mark.parametrize("parts", ["all", "transformer"])
def test_saved_and_loaded(family: Family, stock: Any, tmp_path: Path, parts: str) -> None:
    stock.pipeline.save_pretrained(tmp_path)
    loaded: Any = family.load(tmp_path, torch.float32, "cpu", parts)
    cond = EDIT.conditioning(stock)
    z, t = noise_for(stock, cond), torch.tensor([0.7])
    want = stock.velocity(stock.transformer, z, t, cond)
    torch.testing.assert_close(loaded.velocity(loaded.transformer, z, t, cond), want, rtol=0, atol=0)
    assert loaded.sampling_grid(4, (8, 8)) == stock.sampling_grid(4, (8, 8))
