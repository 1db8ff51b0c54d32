"""What is published of models that are not on this machine: what a plan needs of their configs. Without torch."""

from collections.abc import Mapping
from typing import Any

from fewstep.runtime.errors import ModelError

KLEIN = {  # black-forest-labs/FLUX.2-klein-4B; the stock class has another size by default
    "num_layers": 5,
    "num_single_layers": 20,
    "num_attention_heads": 24,
    "joint_attention_dim": 7680,
    "guidance_embeds": False,
}
SCHEDULER = "scheduler/scheduler_config.json"
# Their scheduler_config.json, as far as it decides noise levels.
QWEN_SCHEDULER = {
    "use_dynamic_shifting": True,
    "base_image_seq_len": 256,
    "max_image_seq_len": 8192,
    "base_shift": 0.5,
    "max_shift": 0.9,
    "shift_terminal": 0.02,
}
KLEIN_SCHEDULER = {"use_dynamic_shifting": True, "shift": 3.0, "base_shift": 0.5, "max_shift": 1.15}
FLUX3_SCHEDULER = {"shift": 6.93, "use_dynamic_shifting": False}  # what the stock blocks make where a folder holds none
Z_IMAGE_SCHEDULER = {"use_dynamic_shifting": False, "shift": 6.0}
KLEIN_9B = {**KLEIN, "num_layers": 8, "num_single_layers": 24, "num_attention_heads": 32, "joint_attention_dim": 12288}
LONGCAT = {"num_layers": 10, "num_single_layers": 20}  # meituan-longcat/LongCat-Image: 12.54 GB in bf16
EDITING = {"zero_cond_t": True}  # Qwen-Image-Edit-2511
# Part of a name, its model_index.json as far as it matters, its config, its scheduler's; None where that was not read.
Published = tuple[str, Mapping[str, Any], Mapping[str, Any], Mapping[str, Any] | None]
PUBLISHED: tuple[Published, ...] = (
    ("flux.2-klein-4b", {"_class_name": "Flux2KleinPipeline"}, KLEIN, KLEIN_SCHEDULER),
    ("flux.2-klein-base-4b", {"_class_name": "Flux2KleinPipeline"}, KLEIN, KLEIN_SCHEDULER),
    ("flux.2-klein-9b", {"_class_name": "Flux2KleinPipeline"}, KLEIN_9B, KLEIN_SCHEDULER),
    ("flux.2-klein-base-9b", {"_class_name": "Flux2KleinPipeline"}, KLEIN_9B, KLEIN_SCHEDULER),
    ("flux-3-image-klein-base", {"_class_name": "Flux3ModularPipeline"}, {}, FLUX3_SCHEDULER),
    ("z-image", {"_class_name": "ZImagePipeline"}, {}, Z_IMAGE_SCHEDULER),
    ("longcat-image-edit", {"_class_name": "LongCatImageEditPipeline"}, LONGCAT, None),
    ("longcat-image", {"_class_name": "LongCatImagePipeline"}, LONGCAT, None),
    ("qwen-image-2.1", {"_class_name": "QwenImage21Pipeline"}, {}, QWEN_SCHEDULER),
    ("qwen-image-edit-2511", {"_class_name": "QwenImageEditPlusPipeline"}, EDITING, QWEN_SCHEDULER),
    ("qwen-image-edit", {"_class_name": "QwenImageEditPlusPipeline"}, {}, QWEN_SCHEDULER),
    ("qwen-image", {"_class_name": "QwenImagePipeline"}, {}, QWEN_SCHEDULER),
)


def published_size(model: str) -> Published:
    """The entry of a model that is not on this machine, by its name.

    Raises:
        ModelError: no published model whose size is known.
    """
    for entry in PUBLISHED:
        if entry[0] in model.lower():
            return entry
    raise ModelError(
        f"{model} is not on this machine, and of another size than the published models whose size is known "
        f"({', '.join(entry[0] for entry in PUBLISHED)}). Give a folder with its model_index.json and "
        "transformer/config.json"
    )
