"""A complete FLUX 3 pipeline of stock classes that fits into a test: random weights, no file, no network."""

import torch

from fewstep.backbones.flux3_pipeline import Flux3Parts
from fewstep.backbones.stock import (
    FlowMatchEulerDiscreteScheduler,
    Flux3Transformer2DModel,
    Qwen2VLImageProcessorPil,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)
from fewstep.backbones.testing.tiny_parts import QWEN3_TEMPLATE, byte_tokenizer, flux2_vae
from fewstep.backbones.testing.tiny_qwen3_vl import qwen_3_vl

CHANNELS = 4  # of a latent; a token packs 2 x 2 of them
WIDTH = 8  # of the text encoder
LAYERS = 33  # of the text encoder: the pipeline reads after the 4th, the 8th, .., the 32nd
READ = 8  # layers
SHIFT = 6.93  # of the pipeline's own scheduler


def flux3_pipeline(seed: int = 0, flow_map: bool = False) -> Flux3Parts:
    """In float32 on the CPU. The caller's random state is left as it was.

    flow_map: with the second time embedder of the makers' distilled model.
    """
    processor = _processor()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Flux3Parts(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
            vae=flux2_vae(CHANNELS),
            text_encoder=qwen_3_vl(
                processor.tokenizer, width=WIDTH, inner=WIDTH, layers=LAYERS, heads=1, head=8, positions=16
            ),
            tokenizer=processor,
            transformer=_transformer(flow_map),
        )


def _transformer(flow_map: bool) -> Flux3Transformer2DModel:
    return Flux3Transformer2DModel(
        in_channels=4 * CHANNELS,
        cond_in_channels=4 * CHANNELS,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=READ * WIDTH,
        timestep_channels=32,
        axes_dims_rope=(4, 4, 4, 4),
        flow_map=flow_map,
    ).eval()


def _processor() -> Qwen3VLProcessor:
    """The pipeline reads no picture with it: the text encoder of this model sees text alone."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = QWEN3_TEMPLATE
    images = Qwen2VLImageProcessorPil(patch_size=16, merge_size=2)
    videos = Qwen3VLVideoProcessor(patch_size=16, merge_size=2, cap_pixels_per_frame=True)
    return Qwen3VLProcessor(
        image_processor=images, tokenizer=tokenizer, video_processor=videos, chat_template=QWEN3_TEMPLATE
    )
