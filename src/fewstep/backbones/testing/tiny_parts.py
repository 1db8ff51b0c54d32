"""Parts that tiny pipelines share: a tokenizer of bytes, chat templates, a Qwen2.5-VL, VAEs of FLUX.1 and FLUX.2."""

from tokenizers.pre_tokenizers import ByteLevel

from fewstep.backbones.stock import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessorPil,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3Config,
)

WIDTH = 32  # of Qwen2.5-VL
PATCH = 14  # of its vision part, in pixels
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
# Must tokenise exactly as the raw strings that the pipeline assembles: it counts the system tokens through this.
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}{{ part.text }}{% endfor %}"
    "{% endif %}<|im_end|>\n{% endfor %}"
)
QWEN3_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
)


def byte_tokenizer() -> Qwen2Tokenizer:
    """Bytes as tokens: every string can be written."""
    vocabulary = {symbol: index for index, symbol in enumerate(sorted(ByteLevel.alphabet()))}
    return Qwen2Tokenizer(vocab=vocabulary, merges=[], extra_special_tokens=list(SPECIAL[1:]))


def flux_vae(channels: int) -> AutoencoderKL:
    """An 8x VAE with its own shift and scale of latents, as FLUX.1's, which Z-Image and LongCat-Image have."""
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ).eval()


def flux2_vae(channels: int) -> AutoencoderKLFlux2:
    """The VAE of FLUX.2 and FLUX.3. Its latents are normalised by running statistics, which are drawn here: zeros and
    ones would hide mistakes."""
    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=64,
    )
    vae.bn.running_mean.normal_(0, 0.3)
    vae.bn.running_var.uniform_(0.5, 2)
    return vae.eval()


def qwen_3_config(tokenizer: Qwen2Tokenizer, width: int, layers: int) -> Qwen3Config:
    """The config of a tiny Qwen3, which reads text alone."""
    return Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=1024,
        pad_token_id=tokenizer.get_vocab()["<|endoftext|>"],
        bos_token_id=None,
        eos_token_id=tokenizer.get_vocab()["<|im_end|>"],
    )


def qwen_25_vl(tokenizer: Qwen2Tokenizer) -> Qwen2_5_VLForConditionalGeneration:
    """A tiny Qwen2.5-VL with vision."""
    ids = tokenizer.get_vocab()
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]},
        "pad_token_id": ids["<|endoftext|>"],
        "bos_token_id": None,
        "eos_token_id": ids["<|im_end|>"],
    }
    vision = {
        "depth": 1,
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_heads": 2,
        "out_hidden_size": WIDTH,
        "fullatt_block_indexes": [0],
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def qwen_2_vl_processor(tokenizer: Qwen2Tokenizer) -> Qwen2VLProcessor:
    """Its processor, with an image size range that admits 28 x 28 px."""
    sizes = {"shortest_edge": 4 * PATCH * PATCH, "longest_edge": 2048 * 2048}
    images = Qwen2VLImageProcessorPil(patch_size=PATCH, merge_size=2, size=sizes)
    videos = Qwen2VLVideoProcessor(patch_size=PATCH, merge_size=2)
    return Qwen2VLProcessor(
        image_processor=images, tokenizer=tokenizer, video_processor=videos, chat_template=CHAT_TEMPLATE
    )
