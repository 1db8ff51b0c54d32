"""A complete QwenImage21Pipeline of stock classes that fits into a test: random weights, no file, no network.

It has everything the 7 B model has - Qwen3-VL with vision, a processor, a 16x RGBA VAE, block-causal attention, text
to image and edits - at about 0.45 M parameters. Its pictures make no sense. It is there to compare code with the stock
pipeline.
"""

import torch

from fewstep.backbones.stock import (
    AutoencoderKLQwenImage21,
    FlowMatchEulerDiscreteScheduler,
    Qwen2VLImageProcessorPil,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    QwenImage21Pipeline,
    QwenImage21Transformer2DModel,
)
from fewstep.backbones.testing.tiny_parts import CHAT_TEMPLATE, byte_tokenizer
from fewstep.backbones.testing.tiny_qwen3_vl import qwen_3_vl

CHANNELS = 8  # of a latent token
WIDTH = 32  # of the text encoder
TILE = 16  # pixels a side of a latent token


def qwen_image_21_pipeline(seed: int = 0) -> QwenImage21Pipeline:
    """The whole pipeline in float32 on the CPU. The caller's random state is left as it was."""
    processor = _processor()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return QwenImage21Pipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
            vae=_vae(),
            text_encoder=qwen_3_vl(
                processor.tokenizer, width=WIDTH, inner=2 * WIDTH, layers=2, heads=2, head=16, positions=64
            ),
            processor=processor,
            transformer=_transformer(),
        )


def _transformer() -> QwenImage21Transformer2DModel:
    return QwenImage21Transformer2DModel(
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_layers=2,
        num_attention_heads=2,
        attention_head_dim=32,
        context_in_dim=WIDTH,
        axes_dims_rope=(8, 12, 12),
    ).eval()


def _vae() -> AutoencoderKLQwenImage21:
    """One convolutional stage over 16 x 16 px patches: 16x smaller, RGBA."""
    return AutoencoderKLQwenImage21(
        base_dim=CHANNELS,
        decoder_base_dim=CHANNELS,
        z_dim=CHANNELS,
        dim_mult=[1],
        num_res_blocks=1,
        temperal_downsample=[],
        latents_mean=[0.02 * channel for channel in range(CHANNELS)],
        latents_std=[0.5 + 0.05 * channel for channel in range(CHANNELS)],
        in_channels=4 * TILE * TILE,
        out_channels=4 * TILE * TILE,
        patch_size=TILE,
    ).eval()


def _processor() -> Qwen3VLProcessor:
    """An image size range that admits 32 x 32 px."""
    sizes = {"shortest_edge": TILE * TILE, "longest_edge": 2048 * 2048}
    images = Qwen2VLImageProcessorPil(patch_size=TILE, merge_size=2, size=sizes)
    videos = Qwen3VLVideoProcessor(patch_size=TILE, merge_size=2, cap_pixels_per_frame=True)
    return Qwen3VLProcessor(
        image_processor=images, tokenizer=byte_tokenizer(), video_processor=videos, chat_template=CHAT_TEMPLATE
    )
