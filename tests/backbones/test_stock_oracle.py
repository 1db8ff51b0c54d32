"""The pipeline's own call is the oracle: what it hands its scheduler at every step is what `velocity` answers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fewstep.backbones.conditioning import stack
from fewstep.flow.guided_velocity import guided
from fewstep.flow.solver import trajectory
from fewstep.sample.sampler import pipeline_noise
from tests.backbones.families import (
    EDIT,
    EDIT_TWO,
    EDIT_UNEQUAL,
    REQUESTS,
    SIZE,
    T2I,
    T2I_UNEQUAL,
    Family,
    Request,
    called_apart,
    noise_for,
    picture,
    stock_call,
)


@pytest.mark.parametrize("asked", REQUESTS, ids=lambda r: r.name)
def test_velocity(family: Family, stock: Any, asked: Request) -> None:
    steps, _ = stock_call(family, stock, asked)
    cond = asked.conditioning(stock)
    assert len(steps) == 3
    for step in steps:
        v = stock.velocity(stock.transformer, step.z_BND, step.t_B, cond)
        torch.testing.assert_close(v, step.v_BND, rtol=0, atol=1e-5)


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "uncached"])
@pytest.mark.parametrize("asked", REQUESTS, ids=lambda r: r.name)
def test_cached_velocity(caching: Family, asked: Request, cached: bool) -> None:
    backbone = caching.make()
    assert caching.cache is not None
    steps, _ = stock_call(caching, backbone, asked, **caching.cache(cached))
    cond = asked.conditioning(backbone)
    prefix = backbone.prefix(backbone.transformer, cond)
    assert prefix is not None
    for step in steps:
        v = backbone.velocity(backbone.transformer, step.z_BND, step.t_B, cond, prefix)
        torch.testing.assert_close(v, step.v_BND, rtol=0, atol=1e-5)


@pytest.mark.parametrize("asked", [T2I_UNEQUAL, EDIT, EDIT_TWO], ids=lambda r: r.name)
def test_guided_velocity(family: Family, stock: Any, asked: Request) -> None:
    negatives = [family.negative] * len(asked.prompts)
    steps, _ = stock_call(family, stock, asked, **family.guided(2.5, negatives))
    cond = asked.conditioning(stock)
    null = Request("negative", negatives, asked.shapes, asked.size).conditioning(stock)
    guidance = replace(stock.guidance_of(cond.layout.task), scale=2.5)
    for step in steps:
        v_c, v_u = (stock.velocity(stock.transformer, step.z_BND, step.t_B, c) for c in (cond, null))
        torch.testing.assert_close(guided(v_c, v_u, guidance), step.v_BND, rtol=0, atol=1e-5)


@pytest.mark.parametrize("asked", [T2I, EDIT], ids=lambda r: r.name)
def test_whole_trajectory(family: Family, stock: Any, asked: Request) -> None:
    """Our solver on our grid ends where the pipeline ends."""
    steps, _ = stock_call(family, stock, asked)
    cond = asked.conditioning(stock)
    grid = stock.sampling_grid(3, cond.layout.target)
    prefix = stock.prefix(stock.transformer, cond)
    end = trajectory(lambda z, t: stock.velocity(stock.transformer, z, t, cond, prefix), steps[0].z_BND, grid)[-1]
    torch.testing.assert_close(end, steps[-1].after_BND, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("asked", [T2I, EDIT], ids=lambda r: r.name)
def test_the_noise_of_a_seed(family: Family, stock: Any, asked: Request, dtype: torch.dtype, tmp_path: Path) -> None:
    """Ours is the pipeline's, to the bit: drawn in its shape and dtype, then packed."""
    backbone = stock
    if dtype != torch.float32:
        stock.pipeline.save_pretrained(tmp_path)
        backbone = family.load(tmp_path, dtype, "cpu")
    steps, _ = stock_call(family, backbone, asked, seed=5)
    assert torch.equal(pipeline_noise(backbone, asked.conditioning(backbone), [5]), steps[0].z_BND)


@pytest.mark.parametrize("asked", [T2I_UNEQUAL, EDIT], ids=lambda r: r.name)
def test_decoded_pictures(family: Family, stock: Any, asked: Request) -> None:
    """Together, or one by one where the stock call was made for each: a batch's convolutions are rounded otherwise."""
    steps, pictures = stock_call(family, stock, asked)
    x0_BND, target = steps[-1].after_BND, asked.conditioning(stock).layout.target
    parts = x0_BND[:, None] if called_apart(family, asked) else [x0_BND]
    ours = [picture for part in parts for picture in stock.decode(part, target)]
    assert [p.tobytes() for p in ours] == [p.tobytes() for p in pictures]
    assert all(p.mode == pictures[0].mode and p.size == asked.size[::-1] for p in ours)


@pytest.mark.parametrize("asked", [T2I_UNEQUAL, EDIT_TWO, EDIT_UNEQUAL], ids=lambda r: r.name)
def test_encoded_prompts(family: Family, stock: Any, asked: Request) -> None:
    """encode is the pipeline's encode_prompt, less what is not text."""
    made = stock.encode(asked.prompts, asked.references or None, asked.size)
    for cond, text_LC in zip(made, family.encoded(stock, asked), strict=True):
        assert cond.text_BLC.shape[0] == 1
        assert cond.mask_BL.all()
        torch.testing.assert_close(cond.text_BLC[0], text_LC, rtol=0, atol=0)


def test_prompts_encoded_together_or_alone(stock: Any) -> None:
    together = stock.encode(T2I_UNEQUAL.prompts, None, T2I_UNEQUAL.size)
    for prompt, cond in zip(T2I_UNEQUAL.prompts, together, strict=True):
        (alone,) = stock.encode([prompt], None, T2I_UNEQUAL.size)
        torch.testing.assert_close(cond.text_BLC, alone.text_BLC, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", ["RGBA", "RGB", "L"])
@pytest.mark.parametrize("asked", [EDIT], ids=lambda r: r.name)
def test_references_of_any_mode(family: Family, stock: Any, asked: Request, mode: str) -> None:
    """Alpha reaches the VAE, and white stands behind it for the text encoder: as in the pipeline."""
    image = picture(80, 64, 3, "RGBA").convert(mode)
    steps, _ = stock_call(family, stock, asked, image=[image])
    cond = stack(stock.encode(asked.prompts, [image], SIZE))
    v = stock.velocity(stock.transformer, steps[0].z_BND, steps[0].t_B, cond)
    torch.testing.assert_close(v, steps[0].v_BND, rtol=0, atol=1e-5)


@pytest.mark.parametrize("asked", [T2I_UNEQUAL, EDIT], ids=lambda r: r.name)
def test_bfloat16(family: Family, tmp_path: Path, asked: Request) -> None:
    family.make().pipeline.save_pretrained(tmp_path)
    loaded: Any = family.load(tmp_path, torch.bfloat16, "cpu")
    steps, _ = stock_call(family, loaded, asked)
    cond = asked.conditioning(loaded)
    assert cond.text_BLC.dtype == torch.bfloat16
    prefix = loaded.prefix(loaded.transformer, cond)
    other_sums = family.shifts_padded and cond.padded  # asked alone, so bf16 rounds sums over fewer keys
    kept = loaded.noise_dtypes(cond.layout.task, torch.bfloat16)[1]
    for step in steps:
        assert step.z_BND.dtype == kept
        cached = loaded.velocity(loaded.transformer, step.z_BND, step.t_B, cond, prefix)
        plain = loaded.velocity(loaded.transformer, step.z_BND, step.t_B, cond)
        assert cached.dtype == kept
        torch.testing.assert_close(cached, step.v_BND, rtol=0, atol=1e-2 if other_sums else 1e-3)
        torch.testing.assert_close(plain, step.v_BND, rtol=0, atol=5e-2)
        full = loaded.velocity(loaded.transformer, step.z_BND.float(), step.t_B, cond)
        assert full.dtype == torch.float32, "the answer has z's dtype, whatever the weights have"


@pytest.mark.parametrize("parts", ["all", "transformer"])
def test_saved_and_loaded(family: Family, stock: Any, tmp_path: Path, parts: str) -> None:
    stock.pipeline.save_pretrained(tmp_path)
    loaded: Any = family.load(tmp_path, torch.float32, "cpu", parts)
    cond = EDIT.within(stock).conditioning(stock)
    z, t = noise_for(stock, cond), torch.tensor([0.7])
    want = stock.velocity(stock.transformer, z, t, cond)
    # Weights in a file's memory may be aligned otherwise, and products then sum in another order.
    torch.testing.assert_close(loaded.velocity(loaded.transformer, z, t, cond), want, rtol=0, atol=2e-6)
    held, made = loaded.transformer.state_dict(), stock.transformer.state_dict()
    assert all(torch.equal(held[name], made[name]) for name in held | made)
    assert loaded.sampling_grid(4, (8, 8)) == stock.sampling_grid(4, (8, 8))
