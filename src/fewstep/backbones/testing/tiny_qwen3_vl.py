"""A tiny Qwen3-VL of the stock classes: the text encoder of Qwen-Image 2.1 and of FLUX 3."""

from fewstep.backbones.stock import Qwen2Tokenizer, Qwen3VLConfig, Qwen3VLForConditionalGeneration


def qwen_3_vl(
    tokenizer: Qwen2Tokenizer, *, width: int, inner: int, layers: int, heads: int, head: int, positions: int
) -> Qwen3VLForConditionalGeneration:
    """One with vision, and random weights.

    Args:
        width: channels of a position.
        inner: channels inside the MLPs of the text part.
        head: channels of an attention head of the text part, a multiple of 8.
        positions: learned positions of the vision part.
    """
    ids = tokenizer.get_vocab()
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": head,
        "max_position_embeddings": 4096,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [head // 4, head // 8, head // 8],
            "mrope_interleaved": True,
        },
        "pad_token_id": ids["<|endoftext|>"],
    }
    vision = {
        "depth": 1,
        "hidden_size": width,
        "intermediate_size": width,
        "num_heads": heads,
        "out_hidden_size": width,
        "num_position_embeddings": positions,
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
