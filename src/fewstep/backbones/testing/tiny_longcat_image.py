"""Complete pipelines of LongCat-Image's stock classes that fit into a test: random weights, no file, no network.

The calls have 16 channels of latents written into them, so these have as many.
"""

from typing import Any

import torch

from fewstep.backbones.stock import (
    FlowMatchEulerDiscreteScheduler,
    LongCatImageEditPipeline,
    LongCatImagePipeline,
    LongCatImageTransformer2DModel,
)
from fewstep.backbones.testing.tiny_parts import WIDTH, byte_tokenizer, flux_vae, qwen_2_vl_processor, qwen_25_vl

CHANNELS = 16  # of a latent; a token packs 2 x 2 of them
SCHEDULER = {"shift": 3.0, "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15}


def longcat_image_pipeline(seed: int = 0) -> LongCatImagePipeline:
    """As LongCat-Image, in float32 on the CPU. The caller's random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LongCatImagePipeline(**_parts())


def longcat_image_edit_pipeline(seed: int = 0) -> LongCatImageEditPipeline:
    """As LongCat-Image-Edit, which does text to image too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LongCatImageEditPipeline(**_parts())


def _parts() -> dict[str, Any]:
    tokenizer = byte_tokenizer()
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(**SCHEDULER),
        "vae": flux_vae(CHANNELS),
        "text_encoder": qwen_25_vl(tokenizer),
        "tokenizer": tokenizer,
        "text_processor": qwen_2_vl_processor(tokenizer),
        "transformer": _transformer(),
    }


def _transformer() -> LongCatImageTransformer2DModel:
    return LongCatImageTransformer2DModel(
        in_channels=4 * CHANNELS,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=32,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=[8, 12, 12],
    ).eval()
