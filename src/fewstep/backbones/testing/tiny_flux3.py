"""A complete FLUX 3 pipeline of stock classes that fits into a test: random weights, no file, no network."""

import torch

from fewstep.backbones.flux3_pipeline import Flux3Parts
from fewstep.backbones.stock import (
    FlowMatchEulerDiscreteScheduler,
    Flux3Transformer2DModel,
    Qwen2Tokenizer,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)
from fewstep.backbones.testing.tiny_parts import QWEN3_TEMPLATE, byte_tokenizer, flux2_vae

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
            text_encoder=_text_encoder(processor.tokenizer),
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


def _text_encoder(tokenizer: Qwen2Tokenizer) -> Qwen3VLForConditionalGeneration:
    ids = tokenizer.get_vocab()
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": 4096,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [2, 1, 1],
            "mrope_interleaved": True,
        },
        "pad_token_id": ids["<|endoftext|>"],
    }
    vision = {
        "depth": 1,
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_heads": 1,
        "out_hidden_size": WIDTH,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0],
    }
    config = Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    return Qwen3VLForConditionalGeneration(config).eval()


def _processor() -> Qwen3VLProcessor:
    """The pipeline reads no picture with it: the text encoder of this model sees text alone."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = QWEN3_TEMPLATE
    images = Qwen2VLImageProcessorPil(patch_size=16, merge_size=2)
    videos = Qwen3VLVideoProcessor(patch_size=16, merge_size=2, cap_pixels_per_frame=True)
    return Qwen3VLProcessor(
        image_processor=images, tokenizer=tokenizer, video_processor=videos, chat_template=QWEN3_TEMPLATE
    )
