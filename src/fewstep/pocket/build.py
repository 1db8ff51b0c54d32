"""The pocket teacher as a stock `QwenImage21Pipeline`: built tiny from configuration, or loaded from package data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from fewstep.pocket.vocabulary import (
    SPECIAL,
    Words,
    byte_pair_tokenizer,
    merges,
    vocabulary,
)
from fewstep.runtime import torchvision_pair

torchvision_pair.ensure()  # before diffusers and transformers

from diffusers import (  # noqa: E402
    AutoencoderKLQwenImage21,
    FlowMatchEulerDiscreteScheduler,
    QwenImage21Pipeline,
    QwenImage21Transformer2DModel,
)
from tokenizers import AddedToken  # noqa: E402
from transformers import (  # noqa: E402
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

# A type checker sees only stand-ins for the lazy classes of diffusers and transformers; these names are for readers.
Pipeline = Any  # QwenImage21Pipeline
Transformer = Any  # QwenImage21Transformer2DModel
Vae = Any  # AutoencoderKLQwenImage21
TextEncoder = Any  # Qwen3VLForConditionalGeneration

TEACHER = Path(__file__).parent / "teacher"
CONTEXT = 128  # width of the text encoder
CHANNELS = 64  # of a latent token
TILE = 16  # px a latent token covers
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% else %}<|vision_start|><|image_pad|><|vision_end|>{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def load_pocket_teacher(folder: Path = TEACHER, dtype: torch.dtype = torch.float32) -> Pipeline:
    """The trained pocket teacher. The stock loader reads this folder in the same way."""
    pipeline: Pipeline = QwenImage21Pipeline.from_pretrained(folder, dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def pocket_words() -> Words:
    return Words(vocabulary(), merges())


def build_pocket_pipeline(seed: int = 0, words: Words | None = None, scheduler: Any = None) -> Pipeline:
    """The whole pipeline with random weights, a pure function of the seed; of the pocket world's words and its
    scheduler, unless others are given."""
    words = words or pocket_words()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline: Pipeline = QwenImage21Pipeline(
            scheduler=scheduler or FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=False),
            vae=build_vae(),
            text_encoder=build_text_encoder(words),
            processor=build_processor(words),
            transformer=build_transformer(),
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def build_transformer(layers: int = 6) -> Transformer:
    transformer: Transformer = QwenImage21Transformer2DModel(
        patch_size=1,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_layers=layers,
        attention_head_dim=64,
        num_attention_heads=4,
        context_in_dim=CONTEXT,
        mlp_ratio=3,
        axes_dims_rope=(8, 28, 28),
        causal_condition=True,
    )
    return transformer.eval()


def build_vae(encoder_width: int = 132, decoder_width: int = 192) -> Vae:
    """One 16 x 16 px tile per latent token, RGBA. The network works at tile resolution throughout."""
    vae: Vae = AutoencoderKLQwenImage21(
        base_dim=encoder_width,
        decoder_base_dim=decoder_width,
        z_dim=CHANNELS,
        dim_mult=[1],
        num_res_blocks=0,
        temperal_downsample=[],
        in_channels=4 * TILE * TILE,
        out_channels=4 * TILE * TILE,
        patch_size=TILE,
        latents_mean=[0.0] * CHANNELS,
        latents_std=[1.0] * CHANNELS,
    )
    return vae.eval()


def build_tokenizer(words: Words) -> PreTrainedTokenizerFast:
    core = byte_pair_tokenizer(words.ids, words.merges, words.normalizer)
    core.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
        additional_special_tokens=list(SPECIAL[3:]),
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_processor(words: Words) -> Qwen3VLProcessor:
    sizes = {"shortest_edge": 32 * 32, "longest_edge": 512 * 512}  # px in all
    kinds: dict[str, Any] = {"patch_size": 16, "merge_size": 2, "temporal_patch_size": 2, "size": sizes}
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessorPil(**kinds, image_mean=[0.5] * 3, image_std=[0.5] * 3),
        tokenizer=build_tokenizer(words),
        video_processor=Qwen3VLVideoProcessor(**kinds),
        chat_template=CHAT_TEMPLATE,
    )


def build_text_encoder(words: Words) -> TextEncoder:
    """Frozen random weights. Embeddings of unit scale and small residual branches keep a token's identity readable in
    the last hidden state, with a trace (about 3 %) of its neighbours and of the reference picture."""
    ids = words.ids
    text: dict[str, Any] = {
        "vocab_size": len(ids),
        "hidden_size": CONTEXT,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "max_position_embeddings": 2048,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e4,
            "mrope_section": [12, 10, 10],
            "mrope_interleaved": True,
        },
        "tie_word_embeddings": True,
        "pad_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "bos_token_id": None,
    }
    vision: dict[str, Any] = {
        "depth": 1,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 2,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": CONTEXT,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [],
    }
    slots: dict[str, Any] = {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }
    model: TextEncoder = Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **slots)
    )
    nn.init.normal_(model.get_input_embeddings().weight, std=1.0)
    return model.requires_grad_(False).eval()
