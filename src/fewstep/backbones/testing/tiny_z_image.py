"""A complete ZImagePipeline of stock classes that fits into a test: random weights, no file, no network."""

import torch

from fewstep.backbones.stock import (
    FlowMatchEulerDiscreteScheduler,
    Qwen2Tokenizer,
    Qwen3Model,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from fewstep.backbones.testing.tiny_parts import QWEN3_TEMPLATE, byte_tokenizer, flux_vae, qwen_3_config

CHANNELS = 4  # of a latent; a token packs 2 x 2 of them
WIDTH = 16  # of the text encoder
SHIFT = 6.0  # of Tongyi-MAI/Z-Image


def z_image_pipeline(seed: int = 0, shift: float = SHIFT) -> ZImagePipeline:
    """In float32 on the CPU. The caller's random state is left as it was."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = QWEN3_TEMPLATE
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ZImagePipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=shift, use_dynamic_shifting=False),
            vae=flux_vae(CHANNELS),
            text_encoder=_text_encoder(tokenizer),
            tokenizer=tokenizer,
            transformer=_transformer(),
        )


def _transformer() -> ZImageTransformer2DModel:
    """Its learned tokens of padding are drawn: zeros, as the class makes them, would hide mistakes."""
    made = ZImageTransformer2DModel(
        in_channels=CHANNELS,
        dim=48,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=WIDTH,
        axes_dims=[8, 8, 8],
        axes_lens=[1024, 128, 128],
    )
    for token in (made.x_pad_token, made.cap_pad_token):
        torch.nn.init.normal_(token)
    return made.eval()


def _text_encoder(tokenizer: Qwen2Tokenizer) -> Qwen3Model:
    return Qwen3Model(qwen_3_config(tokenizer, WIDTH, layers=3)).eval()
