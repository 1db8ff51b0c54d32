"""Complete pipelines of the 20 B Qwen-Image's stock classes that fit into a test: random weights, no file, no network.

Both have one transformer, VAE and text encoder in kind: Qwen2.5-VL with vision, an 8x VAE of packed 2 x 2 latents. The
edit model keeps reference tokens at t = 0 (`zero_cond_t`), as Qwen-Image-Edit-2511 does.
"""

from typing import Any

import torch

from fewstep.backbones.stock import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageEditPlusPipeline,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from fewstep.backbones.testing.tiny_parts import WIDTH, byte_tokenizer, qwen_2_vl_processor, qwen_25_vl

CHANNELS = 4  # of a latent; a token packs 2 x 2 of them
SCHEDULER = {  # of Qwen/Qwen-Image
    "base_image_seq_len": 256,
    "max_image_seq_len": 8192,
    "base_shift": 0.5,
    "max_shift": 0.9,
    "shift_terminal": 0.02,
    "use_dynamic_shifting": True,
}


def qwen_image_pipeline(seed: int = 0) -> QwenImagePipeline:
    """As Qwen/Qwen-Image, in float32 on the CPU. The caller's random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return QwenImagePipeline(**_parts(zero_cond_t=False))


def qwen_image_edit_pipeline(seed: int = 0) -> QwenImageEditPlusPipeline:
    """As Qwen/Qwen-Image-Edit-2511, which does text to image too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = _parts(zero_cond_t=True)
        return QwenImageEditPlusPipeline(**parts, processor=qwen_2_vl_processor(parts["tokenizer"]))


def _parts(zero_cond_t: bool) -> dict[str, Any]:
    tokenizer = byte_tokenizer()
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(**SCHEDULER),
        "vae": _vae(),
        "text_encoder": qwen_25_vl(tokenizer),
        "tokenizer": tokenizer,
        "transformer": _transformer(zero_cond_t),
    }


def _transformer(zero_cond_t: bool) -> QwenImageTransformer2DModel:
    return QwenImageTransformer2DModel(
        in_channels=4 * CHANNELS,
        out_channels=CHANNELS,
        num_layers=2,
        num_attention_heads=2,
        attention_head_dim=32,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(8, 12, 12),
        zero_cond_t=zero_cond_t,
    ).eval()


def _vae() -> AutoencoderKLQwenImage:
    return AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=CHANNELS,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.02 * channel for channel in range(CHANNELS)],
        latents_std=[0.5 + 0.05 * channel for channel in range(CHANNELS)],
    ).eval()
