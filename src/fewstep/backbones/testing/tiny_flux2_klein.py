"""A complete Flux2KleinPipeline of stock classes that fits into a test: random weights, no file, no network."""

import torch

from fewstep.backbones.stock import (
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    Qwen2Tokenizer,
    Qwen3ForCausalLM,
)
from fewstep.backbones.testing.tiny_parts import QWEN3_TEMPLATE, byte_tokenizer, flux2_vae, qwen_3_config

CHANNELS = 4  # of a latent; a token packs 2 x 2 of them
WIDTH = 16  # of the text encoder
LAYERS = 28  # of the text encoder: the pipeline reads after the 9th, the 18th and the 27th
SCHEDULER = {"shift": 3.0, "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15}


def flux2_klein_pipeline(seed: int = 0, is_distilled: bool = False) -> Flux2KleinPipeline:
    """In float32 on the CPU. The caller's random state is left as it was."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = QWEN3_TEMPLATE
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Flux2KleinPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(**SCHEDULER),
            vae=flux2_vae(CHANNELS),
            text_encoder=_text_encoder(tokenizer),
            tokenizer=tokenizer,
            transformer=_transformer(),
            is_distilled=is_distilled,
        )


def _transformer() -> Flux2Transformer2DModel:
    return Flux2Transformer2DModel(
        in_channels=4 * CHANNELS,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=32,
        num_attention_heads=2,
        joint_attention_dim=3 * WIDTH,
        timestep_guidance_channels=32,
        axes_dims_rope=(8, 8, 8, 8),
        guidance_embeds=False,
    ).eval()


def _text_encoder(tokenizer: Qwen2Tokenizer) -> Qwen3ForCausalLM:
    return Qwen3ForCausalLM(qwen_3_config(tokenizer, WIDTH, LAYERS)).eval()
