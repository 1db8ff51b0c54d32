"""Noise levels by family, resolution and number of steps, held against the stock scheduler and the stock pipeline's own
arithmetic; and times that a network can be told."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.modular_pipelines.flux3 import before_denoise
from diffusers.pipelines.flux2 import pipeline_flux2_klein
from diffusers.pipelines.longcat_image import pipeline_longcat_image
from diffusers.pipelines.qwenimage import pipeline_qwenimage, pipeline_qwenimage_edit_plus
from diffusers.pipelines.qwenimage21 import pipeline_qwenimage21
from diffusers.pipelines.z_image import pipeline_z_image

from fewstep.backbones.families import levels_of
from fewstep.backbones.flux2_klein import Flux2Klein
from fewstep.backbones.flux3_klein import Flux3Klein
from fewstep.backbones.flux3_pipeline import SCHEDULER
from fewstep.backbones.longcat_image import LongCatImage
from fewstep.backbones.pipeline_backbone import PipelineBackbone
from fewstep.backbones.published_sizes import KLEIN_SCHEDULER, QWEN_SCHEDULER, Z_IMAGE_SCHEDULER
from fewstep.backbones.qwen_image import QwenImage
from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.backbones.stock import FlowMatchEulerDiscreteScheduler
from fewstep.backbones.z_image import ZImage
from fewstep.export.grids import grid_settings
from fewstep.flow.sigmas import SigmaGrid
from tests.backbones.families import FAMILIES, Family

SIDES = [512, 1024, 1328]
STEPS = [4, 8, 40, 50]
Mu = Callable[[int, Mapping[str, Any], int], float | None]


def _calculated(module: Any) -> Mu:
    """As the pipeline's call computes it (`calculate_shift`)."""

    def mu(tokens: int, config: Mapping[str, Any], steps: int) -> float:
        keys = {"base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15}
        return module.calculate_shift(tokens, *(config.get(key, default) for key, default in keys.items()))

    return mu


def _empirical(tokens: int, config: Mapping[str, Any], steps: int) -> float:
    return pipeline_flux2_klein.compute_empirical_mu(image_seq_len=tokens, num_steps=steps)


STOCK: list[tuple[str, type[PipelineBackbone], Any, Mu, Mapping[str, Any]]] = [
    ("2.1", QwenImage21, pipeline_qwenimage21, _calculated(pipeline_qwenimage21), QWEN_SCHEDULER),
    ("20B", QwenImage, pipeline_qwenimage, _calculated(pipeline_qwenimage), QWEN_SCHEDULER),
    ("20B edit", QwenImage, pipeline_qwenimage_edit_plus, _calculated(pipeline_qwenimage_edit_plus), QWEN_SCHEDULER),
    ("klein", Flux2Klein, pipeline_flux2_klein, _empirical, KLEIN_SCHEDULER),
    ("z-image", ZImage, pipeline_z_image, _calculated(pipeline_z_image), Z_IMAGE_SCHEDULER),
    ("flux3", Flux3Klein, before_denoise, lambda tokens, config, steps: None, SCHEDULER),
    (
        "longcat",
        LongCatImage,
        pipeline_longcat_image,
        _calculated(pipeline_longcat_image),
        {"use_dynamic_shifting": True},
    ),
    ("static", QwenImage21, pipeline_qwenimage21, _calculated(pipeline_qwenimage21), {"shift": 3.0}),
]


def stock_sigmas(pipeline: Any, mu: Mu, config: Mapping[str, Any], steps: int, tokens: int) -> list[float]:
    """The levels that the pipeline's call makes its scheduler walk, without the closing 0."""
    scheduler = FlowMatchEulerDiscreteScheduler(**config)
    even = np.linspace(1.0, 1 / steps, steps)
    own = mu(tokens, scheduler.config, steps)
    given = {} if own is None else {"mu": own}  # FLUX 3's call knows none
    pipeline.retrieve_timesteps(scheduler, steps, "cpu", sigmas=even, **given)
    return scheduler.sigmas[:-1].tolist()


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("family", "pipeline", "mu", "config"), [c[1:] for c in STOCK], ids=[c[0] for c in STOCK])
def test_shifts_and_grids_are_the_stock_pipelines(
    family: type[PipelineBackbone], pipeline: Any, mu: Mu, config: Mapping[str, Any], side: int, steps: int
) -> None:
    tokens = (side // 16) ** 2
    plain = {key: value for key, value in config.items() if key != "shift_terminal"}
    expected = stock_sigmas(pipeline, mu, plain, steps, tokens)
    found = levels_of(family, {}, config, (side, side), steps)
    assert list(found.student) == pytest.approx(expected, abs=1e-6)
    # s' = a s / (1 + (a - 1) s), read off the second level of the stock scheduler
    even = 1 - 1 / steps
    shift = expected[1] * (1 - even) / (even * (1 - expected[1]))
    assert family.scheduler_shift(config, steps, tokens) == pytest.approx(shift, rel=1e-4)
    usual = family.default_sampling({})[1]
    assert found.time_shift == family.scheduler_shift(config, usual, tokens)
    whole = SigmaGrid.of_scheduler(
        config, steps, tokens, mu(tokens, FlowMatchEulerDiscreteScheduler(**config).config, steps)
    )
    assert list(whole) == pytest.approx(stock_sigmas(pipeline, mu, config, steps, tokens), abs=1e-6)


def test_what_the_recipes_rely_on() -> None:
    """The figures in recipes and docs/families.md, for the schedulers as they are published."""
    flux3 = levels_of(Flux3Klein, {}, SCHEDULER, (1024, 1024), 4)
    assert list(flux3.student) == pytest.approx([1, 0.954, 0.874, 0.698], abs=5e-4)
    klein = levels_of(Flux2Klein, {}, KLEIN_SCHEDULER, (1024, 1024), 4)
    assert list(klein.student) == pytest.approx([1, 0.967, 0.908, 0.767], abs=5e-4)
    assert klein.time_shift == pytest.approx(7.6, abs=0.05)
    for family in (QwenImage21, QwenImage):
        qwen = levels_of(family, {}, QWEN_SCHEDULER, (1024, 1024), 4)
        assert list(qwen.student) == pytest.approx([1, 0.857, 0.667, 0.400], abs=5e-4)
        assert (qwen.time_shift, qwen.terminal) == (pytest.approx(2.0, abs=0.01), 0.02)
    assert stock_sigmas(pipeline_qwenimage, STOCK[1][3], QWEN_SCHEDULER, 4, 4096)[-1] == pytest.approx(0.02)


@pytest.mark.parametrize(("family", "config"), [(c[1], c[4]) for c in STOCK], ids=[c[0] for c in STOCK])
def test_a_student_folder_can_carry_them(family: type[PipelineBackbone], config: Mapping[str, Any]) -> None:
    grid = levels_of(family, {}, config, (1024, 768), 4).student
    settings = grid_settings(family, grid)
    kept = {key: value for key, value in settings.scheduler.items() if key != "_class_name"}
    scheduler = FlowMatchEulerDiscreteScheduler(**kept)
    scheduler.set_timesteps(sigmas=settings.index.get("sample_sigmas", np.linspace(1, 0.25, 4)))
    assert scheduler.sigmas[:-1].tolist() == pytest.approx(list(grid), abs=2e-6)


def test_a_base_with_levels_of_its_own_hands_them_on() -> None:
    index = {"sample_sigmas": [1.0, 0.9, 0.8, 0.3]}
    assert list(levels_of(QwenImage21, index, {"shift": 1.0}, (64, 64), 4).student) == [1.0, 0.9, 0.8, 0.3]
    assert list(levels_of(QwenImage21, index, {"shift": 1.0}, (64, 64), 2).student) == [1.0, 0.5]


def test_the_model_answers_as_its_files(family: Family, stock: Any) -> None:
    config = stock.pipeline.scheduler.config
    for target, steps in (((4, 6), 4), ((8, 8), 30)):
        found = levels_of(type(stock), {}, config, (target[0] * 16, target[1] * 16), steps)
        assert SigmaGrid.static(steps, stock.sampling_shift(steps, target)) == found.student
        if not config.get("shift_terminal"):
            assert stock.sampling_grid(steps, target) == found.student


# ---- what a network is told


@pytest.fixture(params=FAMILIES, ids=lambda f: f.name)
def rounded(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    request.param.make().pipeline.save_pretrained(tmp_path)
    return request.param.load(tmp_path, torch.bfloat16, "cpu")


def heard(backbone: Any, t_B: torch.Tensor) -> torch.Tensor:
    """What the sinusoidal embedding of the stock transformer is given, on the scale of t."""
    embed = next(m for name, m in backbone.transformer.named_modules() if name.endswith(("time_proj", "t_embedder")))
    seen: list[torch.Tensor] = []
    hook = embed.register_forward_pre_hook(lambda _, given: seen.append(given[0][: len(t_B)].float()))
    cond = backbone.encode(["a cat"], None, (64, 64))[0]
    for t in t_B:
        z = torch.zeros(1, *backbone.noise_shape(cond.layout), dtype=torch.bfloat16)
        backbone.velocity(backbone.transformer, z, t[None], cond)
    hook.remove()
    told = torch.cat([each[:1] for each in seen])
    told = told / 1000 if told.max() > 1.5 else told
    return 1 - told if backbone.time_reversed else told


def test_a_network_is_told_the_level_of_the_noise_that_it_sees(rounded: Any) -> None:
    """In bf16 most times cannot be told. Those that are drawn for training are rounded before anything is noised."""
    t = torch.rand(40, generator=torch.Generator().manual_seed(0)) * 0.98 + 0.01
    told = rounded.told_times(t)
    if isinstance(rounded, ZImage):  # whose times are embedded in float32
        assert torch.equal(told, t)
        torch.testing.assert_close(heard(rounded, t), t, rtol=2e-7, atol=1e-7)
        return
    assert (told != t).any()
    assert (told - t).abs().max() < 0.004
    torch.testing.assert_close(heard(rounded, told), told, rtol=2e-7, atol=0)
    torch.testing.assert_close(heard(rounded, t), told, rtol=2e-7, atol=0)


@pytest.mark.parametrize("family_class", [QwenImage21, QwenImage, Flux2Klein, LongCatImage, Flux3Klein])
def test_told_times_are_told_as_they_are(family_class: type[PipelineBackbone]) -> None:
    t = torch.linspace(1e-4, 1, 100_001)
    once = family_class._told(t, torch.bfloat16)
    assert torch.equal(family_class._told(once, torch.bfloat16), once)
    assert ((once > 0) & (once <= 1)).all()


def test_in_fp32_times_stay_as_drawn(stock: Any) -> None:
    t = torch.rand(100)
    assert torch.equal(stock.told_times(t), t)
