"""The stock classes of diffusers and transformers, imported after torchvision was made importable.

All that fewstep uses of the two to run a model is imported from here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from logging import CRITICAL
from typing import Any

from fewstep.runtime import torchvision_pair
from fewstep.runtime.errors import EnvironmentRefused

torchvision_pair.ensure()

try:
    from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
except ValueError as error:  # diffusers reads the variable while it is imported
    if "AttentionBackendName" not in str(error):
        raise
    raise EnvironmentRefused(f"DIFFUSERS_ATTN_BACKEND names no backend of diffusers ({error}); unset it") from error

from diffusers.guiders import ClassifierFreeGuidance  # noqa: E402
from diffusers.image_processor import VaeImageProcessor  # noqa: E402
from diffusers.models import (  # noqa: E402
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    AutoencoderKLQwenImage21,
    Flux2Transformer2DModel,
    Flux3Transformer2DModel,
    LongCatImageTransformer2DModel,
    QwenImage21Transformer2DModel,
    QwenImageTransformer2DModel,
    ZImageTransformer2DModel,
)
from diffusers.models.attention_dispatch import (  # noqa: E402
    _check_attention_backend_requirements as require_attention_backend,
)
from diffusers.models.transformers import transformer_qwenimage21  # noqa: E402
from diffusers.models.transformers.transformer_flux3 import Flux3AttnProcessor  # noqa: E402
from diffusers.models.transformers.transformer_qwenimage21 import (  # noqa: E402
    QwenImage21KVCache,
    QwenImage21Rope,
)
from diffusers.modular_pipelines.flux3 import (  # noqa: E402
    Flux3AutoBlocks,
    Flux3ModularPipeline,
)
from diffusers.modular_pipelines.flux3.before_denoise import _prepare_image_ids as flux3_picture_positions  # noqa: E402
from diffusers.modular_pipelines.flux3.encoders import Flux3TextEncoderStep, Flux3VaeEncoderStep  # noqa: E402
from diffusers.pipelines.flux2 import Flux2KleinPipeline  # noqa: E402
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu  # noqa: E402
from diffusers.pipelines.longcat_image import (  # noqa: E402
    LongCatImageEditPipeline,
    LongCatImagePipeline,
    pipeline_longcat_image,
    pipeline_longcat_image_edit,
)
from diffusers.pipelines.qwenimage import (  # noqa: E402
    QwenImageEditPlusPipeline,
    QwenImagePipeline,
    pipeline_qwenimage_edit_plus,
)
from diffusers.pipelines.qwenimage21.pipeline_qwenimage21 import (  # noqa: E402
    QwenImage21Pipeline,
    calculate_dimensions,
)
from diffusers.pipelines.z_image import ZImagePipeline  # noqa: E402
from diffusers.schedulers import FlowMatchEulerDiscreteScheduler  # noqa: E402
from diffusers.utils import logging as diffusers_logging  # noqa: E402
from transformers import (  # noqa: E402
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil  # noqa: E402
from transformers.utils import logging as transformers_logging  # noqa: E402

# The attention functions of stock transformers, by name. The table is private, and there is no public way to add one.
QWEN_IMAGE_21_MODULE: Any = transformer_qwenimage21
ATTENTION_BACKENDS = _AttentionBackendRegistry._backends

# Their progress bars would disturb ours.
diffusers_logging.disable_progress_bar()
transformers_logging.disable_progress_bar()


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Inside, diffusers and transformers report nothing: it would stand beside our own reports."""
    told = [(library, library.get_verbosity()) for library in (diffusers_logging, transformers_logging)]
    for library, _ in told:
        library.set_verbosity(CRITICAL)
    try:
        yield
    finally:
        for library, verbosity in told:
            library.set_verbosity(verbosity)


__all__ = [
    "ATTENTION_BACKENDS",
    "QWEN_IMAGE_21_MODULE",
    "AttentionBackendName",
    "AutoImageProcessor",
    "AutoModel",
    "AutoTokenizer",
    "AutoencoderKL",
    "AutoencoderKLFlux2",
    "AutoencoderKLQwenImage",
    "AutoencoderKLQwenImage21",
    "ClassifierFreeGuidance",
    "FlowMatchEulerDiscreteScheduler",
    "Flux2KleinPipeline",
    "Flux2Transformer2DModel",
    "Flux3AttnProcessor",
    "Flux3AutoBlocks",
    "Flux3ModularPipeline",
    "Flux3TextEncoderStep",
    "Flux3Transformer2DModel",
    "Flux3VaeEncoderStep",
    "LongCatImageEditPipeline",
    "LongCatImagePipeline",
    "LongCatImageTransformer2DModel",
    "Qwen2Tokenizer",
    "Qwen2VLImageProcessorPil",
    "Qwen2VLProcessor",
    "Qwen2VLVideoProcessor",
    "Qwen2_5_VLConfig",
    "Qwen2_5_VLForConditionalGeneration",
    "Qwen3Config",
    "Qwen3ForCausalLM",
    "Qwen3Model",
    "Qwen3VLConfig",
    "Qwen3VLForConditionalGeneration",
    "Qwen3VLProcessor",
    "Qwen3VLVideoProcessor",
    "QwenImage21KVCache",
    "QwenImage21Pipeline",
    "QwenImage21Rope",
    "QwenImage21Transformer2DModel",
    "QwenImageEditPlusPipeline",
    "QwenImagePipeline",
    "QwenImageTransformer2DModel",
    "VaeImageProcessor",
    "ZImagePipeline",
    "ZImageTransformer2DModel",
    "calculate_dimensions",
    "compute_empirical_mu",
    "diffusers_logging",
    "flux3_picture_positions",
    "pipeline_longcat_image",
    "pipeline_longcat_image_edit",
    "pipeline_qwenimage_edit_plus",
    "quiet_libraries",
    "require_attention_backend",
    "transformers_logging",
]
