"""DiffSynth-Studio's own Qwen-Image-2.1, written apart from diffusers' classes: a second oracle of the velocity, and a
second reader of our LoRA files.

Skipped where it is not installed: pip install 'fewstep[peers]', then pytest tests/peers. Last run with 2.1.12, whose
velocities were equal to ours to the last bit.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.backbones.conditioning import Conditioning
from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.export.lora import Lora, write_comfyui_lora, write_lora, write_plain_lora
from fewstep.export.run_student import RunStudent
from tests.backbones.families import EDIT, EDIT_TWO, T2I, Request, noise_for
from tests.export.adapters import random_adapter

pytestmark = [
    pytest.mark.skipif(
        find_spec("diffsynth") is None, reason="diffsynth is not installed: pip install 'fewstep[peers]'"
    ),
    pytest.mark.filterwarnings("ignore"),  # of the peer about itself, and about alpha in a file
]
REQUESTS = [T2I, EDIT, EDIT_TWO, Request("edit, another size", ["as it would look at night"], [(70, 90)], (96, 64))]
SIGMAS = [1.0, 0.9, 0.75, 0.5]


@pytest.fixture(scope="module")
def backbone() -> QwenImage21:
    return QwenImage21.tiny(0)


@pytest.fixture
def pipe(backbone: QwenImage21) -> Any:
    """Their pipeline around their transformer, with our weights."""
    from diffsynth.models.qwen_image_21_dit import QwenImage21DiT
    from diffsynth.pipelines.qwen_image_21 import QwenImage21Pipeline

    config = backbone.transformer.config
    names = ("in_channels", "out_channels", "num_layers", "attention_head_dim", "num_attention_heads", "context_in_dim")
    dit = QwenImage21DiT(**{name: config[name] for name in names}, axes_dims_rope=config["axes_dims_rope"])
    dit.load_state_dict(backbone.transformer.state_dict())
    made = QwenImage21Pipeline(device="cpu", torch_dtype=torch.float32)
    made.dit = dit.eval()
    return made


@torch.no_grad()
def their_velocity(pipe: Any, z_BND: Tensor, t_B: Tensor, cond: Conditioning) -> Tensor:
    """v of their model function. It takes latents as pictures, and text embeddings with a place for each image slot."""
    layout, width = cond.layout, cond.text_BLC.shape[2]
    pieces, slots, seen = [], [], 0
    for first, (rows, columns) in zip(layout.slots, layout.references, strict=True):
        count = rows * columns // 4
        pieces += [cond.text_BLC[:, seen:first], cond.text_BLC.new_zeros(1, count, width)]
        slots += [False] * (first - seen) + [True] * count
        seen = first
    pieces.append(cond.text_BLC[:, seen:])
    slots += [False] * (cond.text_BLC.shape[1] - seen)
    references = None
    if cond.references_BRD is not None:
        parts = cond.references_BRD.split([rows * columns for rows, columns in layout.references], dim=1)
        references = [as_picture(part, grid) for part, grid in zip(parts, layout.references, strict=True)]
    v_BCHW = pipe.model_fn(
        pipe.dit,
        latents=as_picture(z_BND, layout.target),
        timestep=1000 * t_B,
        prompt_embeds=torch.cat(pieces, dim=1),
        prompt_embeds_mask=None,
        edit_image_pad_mask=torch.tensor([slots]),
        edit_latents=references,
    )
    return v_BCHW.flatten(2).transpose(1, 2)


def as_picture(tokens_BND: Tensor, grid: tuple[int, int]) -> Tensor:
    return tokens_BND.transpose(1, 2).reshape(1, tokens_BND.shape[2], *grid).contiguous()


@pytest.mark.parametrize("t", SIGMAS)
@pytest.mark.parametrize("asked", REQUESTS, ids=lambda r: r.name)
@torch.no_grad()
def test_the_velocity_is_theirs(backbone: QwenImage21, pipe: Any, asked: Request, t: float) -> None:
    cond = asked.conditioning(backbone)
    z_BND, t_B = noise_for(backbone, cond), torch.tensor([t])
    ours = backbone.velocity(backbone.transformer, z_BND, t_B, cond)
    torch.testing.assert_close(their_velocity(pipe, z_BND, t_B, cond), ours, rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", ["plain", "comfyui", "diffusers"])
@torch.no_grad()
def test_its_loader_takes_all_of_the_plain_lora(
    backbone: QwenImage21, pipe: Any, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And silently less of the other two: it prints how many modules it changed, and no more."""
    state, file = random_adapter(backbone, scale=0.3), tmp_path / "x.safetensors"
    lora = Lora.of(state, 1.5)  # of rank 3: a scale of a half
    shapes = {
        n: tuple(m.weight.shape) for n, m in backbone.transformer.named_modules() if isinstance(m, torch.nn.Linear)
    }
    write: dict[str, Callable[[], Path]] = {
        "plain": lambda: write_plain_lora(lora, file),
        "comfyui": lambda: write_comfyui_lora(lora, file, shapes),
        "diffusers": lambda: write_lora(lora, tmp_path).rename(file),
    }
    write[form]()
    pipe.load_lora(pipe.dit, str(file))
    taken = {"plain": 14, "comfyui": 10, "diffusers": 0}[form]
    assert len(lora.updates) == 14
    assert f"{taken} tensors are fused" in capsys.readouterr().out
    cond = EDIT.conditioning(backbone)
    z_BND, t_B = noise_for(backbone, cond), torch.tensor([0.75])
    base = backbone.velocity(backbone.transformer, z_BND, t_B, cond)
    with RunStudent({}, lora).on(QwenImage21.tiny(0)) as transformer:
        ours = backbone.velocity(transformer, z_BND, t_B, cond)
    off = float((their_velocity(pipe, z_BND, t_B, cond) - ours).norm() / (ours - base).norm())
    assert off < 1e-4 if form == "plain" else off > 0.1


def test_its_schedulers_take_the_students_levels(pipe: Any) -> None:
    """As the model card has it: by an argument here, in the scheduler's own function for families without one."""
    from diffsynth.diffusion import FlowMatchScheduler

    pipe.scheduler.set_timesteps(40, dynamic_shift_len=16, sigmas=SIGMAS)
    other, levels = FlowMatchScheduler("FLUX.2"), torch.tensor(SIGMAS)
    other.set_timesteps_fn = lambda **asked: (levels, 1000 * levels)
    other.set_timesteps(30, denoising_strength=1.0, dynamic_shift_len=4096)
    for scheduler in (pipe.scheduler, other):
        assert scheduler.sigmas.tolist() == pytest.approx(SIGMAS)
        assert scheduler.timesteps.tolist() == pytest.approx([1000, 900, 750, 500])
        end = scheduler.step(torch.ones(1), scheduler.timesteps[-1], torch.zeros(1))
        assert float(end) == -0.5  # to 0, by plain Euler
