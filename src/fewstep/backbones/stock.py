"""The stock classes, imported once, after torchvision has been made importable.

Everything that fewstep takes from diffusers and transformers to run a model comes through here.
"""

from fewstep import _torchvision

_torchvision.ensure()

from diffusers.models import AutoencoderKLQwenImage21, QwenImage21Transformer2DModel  # noqa: E402
from diffusers.models.transformers.transformer_qwenimage21 import QwenImage21KVCache  # noqa: E402
from diffusers.pipelines.qwenimage21.pipeline_qwenimage21 import (  # noqa: E402
    QwenImage21Pipeline,
    calculate_dimensions,
)
from diffusers.schedulers import FlowMatchEulerDiscreteScheduler  # noqa: E402
from diffusers.utils import logging as diffusers_logging  # noqa: E402
from transformers import (  # noqa: E402
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    Qwen2Tokenizer,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil  # noqa: E402
from transformers.utils import logging as transformers_logging  # noqa: E402

# Their bars would tear ours.
diffusers_logging.disable_progress_bar()
transformers_logging.disable_progress_bar()

__all__ = [
    "AutoImageProcessor",
    "AutoModel",
    "AutoTokenizer",
    "AutoencoderKLQwenImage21",
    "FlowMatchEulerDiscreteScheduler",
    "Qwen2Tokenizer",
    "Qwen2VLImageProcessorPil",
    "Qwen3VLConfig",
    "Qwen3VLForConditionalGeneration",
    "Qwen3VLProcessor",
    "Qwen3VLVideoProcessor",
    "QwenImage21KVCache",
    "QwenImage21Pipeline",
    "QwenImage21Transformer2DModel",
    "calculate_dimensions",
]
