"""The sampler makes the pictures that the stock pipeline makes."""

import pytest
import torch
from PIL import Image

from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.flow.guidance import NO_GUIDANCE, Guidance
from fewstep.flow.sigmas import SigmaGrid
from fewstep.runtime.errors import LayoutError, RecipeError
from fewstep.sample.pictures import Model, generate_pictures
from fewstep.sample.sampler import (
    evaluations,
    sample,
    seeded_noise,
)

GRID = SigmaGrid.static(4, 3.0)
SIZE = (64, 96)
PICTURE = Image.linear_gradient("L").resize((96, 64)).convert("RGB")


def stock(backbone: QwenImage21, prompt: str, seeds: list[int], **options: object) -> torch.Tensor:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    call = {"height": SIZE[0], "width": SIZE[1], "output_resolution": 78, "output_type": "latent"} | options
    assert backbone.pipeline is not None
    return backbone.pipeline([prompt] * len(seeds), generator=generators, **call).images


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_noise_is_the_stock_pipelines(backbone: QwenImage21, dtype: torch.dtype) -> None:
    assert backbone.pipeline is not None
    generator = torch.Generator().manual_seed(7)
    drawn, _ = backbone.pipeline.prepare_latents(None, 1, 8, *SIZE, dtype, torch.device("cpu"), generator)
    assert torch.equal(seeded_noise([7], (4, 6), 8, dtype), drawn)


def test_noise_of_a_seed_does_not_depend_on_the_batch() -> None:
    both = seeded_noise([3, 4], (4, 6), 8)
    assert torch.equal(both[1:], seeded_noise([4], (4, 6), 8))
    assert not torch.equal(both[0], both[1])


@pytest.mark.parametrize("references", [[], [PICTURE]], ids=["t2i", "edit"])
@pytest.mark.parametrize("guidance", [NO_GUIDANCE, Guidance(2.5, negative="bad")], ids=["plain", "guided"])
@pytest.mark.parametrize("use_prefix", [True, False])
def test_latents_equal_the_stock_pipelines(
    backbone: QwenImage21, references: list[Image.Image], guidance: Guidance, use_prefix: bool
) -> None:
    conds = backbone.encode(["a red house"], references, SIZE)
    negative = backbone.encode([guidance.negative], references, SIZE)[0] if guidance.active else None
    noise_BND = seeded_noise([5], (4, 6), 8)
    x0_BND = sample(
        backbone, backbone.transformer, conds[0], noise_BND, GRID, guidance, negative, use_prefix=use_prefix
    )
    options = {"true_cfg_scale": guidance.scale, "negative_prompt": [guidance.negative]} if guidance.active else {}
    expected = stock(backbone, "a red house", [5], image=references or None, sigmas=list(GRID), **options)
    torch.testing.assert_close(x0_BND, expected, atol=2e-5, rtol=0)
    assert (expected - noise_BND).abs().max() > 0.1  # it moved


def test_evaluations_are_the_networks_calls(backbone: QwenImage21, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    velocity = backbone.velocity

    def counting(*args: object, **named: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return velocity(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(backbone, "velocity", counting)
    cond = backbone.encode(["one"], None, SIZE)[0]
    for guidance in (NO_GUIDANCE, Guidance(3.0)):
        calls = 0
        sample(backbone, backbone.transformer, cond, seeded_noise([0], (4, 6), 8), GRID, guidance, cond)
        assert calls == evaluations(GRID, guidance)
    assert evaluations(SigmaGrid.static(40), Guidance(4.0)) == 80


def test_pictures_do_not_depend_on_their_neighbours(backbone: QwenImage21) -> None:
    """Prompts of unequal length: in one padded batch the shorter one's target would stand elsewhere."""
    model = Model(backbone, None, NO_GUIDANCE, (64, 64))
    together = generate_pictures(model, ["a", "a much longer prompt", "b"], seed=11, steps=3)
    alone = generate_pictures(model, ["a much longer prompt"], seed=12, steps=3)
    assert together[1].tobytes() == alone[0].tobytes()
    assert len({picture.tobytes() for picture in together}) == 3


def test_an_edit_has_the_shape_of_its_last_reference(backbone: QwenImage21) -> None:
    model = Model(backbone, None, NO_GUIDANCE, (64, 64))
    (wide,) = generate_pictures(model, ["wider"], [PICTURE.resize((128, 32))], steps=1)
    assert wide.size == (128, 32)


def test_a_student_is_not_guided_twice(backbone: QwenImage21) -> None:
    student = Model(backbone, 4, NO_GUIDANCE, (64, 64))
    with pytest.raises(RecipeError, match="Leave --guidance out"):
        generate_pictures(student, ["a"], guidance=Guidance(3.0))
    assert generate_pictures(student, ["a"], guidance=NO_GUIDANCE)


def test_refusals(backbone: QwenImage21) -> None:
    cond = backbone.encode(["one"], None, SIZE)[0]
    with pytest.raises(LayoutError, match="noise of shape"):
        sample(backbone, backbone.transformer, cond, torch.zeros(1, 5, 8), GRID)
    with pytest.raises(LayoutError, match="unconditional branch"):
        sample(backbone, backbone.transformer, cond, seeded_noise([0], (4, 6), 8), GRID, Guidance(2.0))
    with pytest.raises(LayoutError, match="2 prompts but 1 seeds"):
        generate_pictures(Model(backbone, None, NO_GUIDANCE, (64, 64)), ["a", "b"], seed=[1])
