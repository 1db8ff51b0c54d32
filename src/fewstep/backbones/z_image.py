"""Z-Image, 6 B: text to image by one transformer over text and picture.

The transformer takes lists: a text without its padding and a latent (16, 1, rows, columns) of each sample. It pads both
to multiples of 32 positions with learned tokens, which are attended to, and the picture's positions begin behind those
of its text. So a text beside a longer one is answered as alone. Its time runs from 0 (noise) to 1, and it answers with
x0 - eps: the time is reversed here, and the answer negated. Latents and states are float32 in every dtype of weights.

All conventions are those of ZImagePipeline in diffusers 0.42, and contract tests compare the results with its own call.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn

from fewstep.backbones.backbone import Prefix
from fewstep.backbones.conditioning import (
    Conditioning,
)
from fewstep.backbones.folder import read_json
from fewstep.backbones.identity import tokenizer_identity
from fewstep.backbones.layout import Layout, TokenGrid
from fewstep.backbones.licences import APACHE, Licence
from fewstep.backbones.packing import packed, unpacked
from fewstep.backbones.pipeline_backbone import PipelineBackbone, untyped
from fewstep.backbones.stock import ZImagePipeline, ZImageTransformer2DModel
from fewstep.backbones.testing import tiny_z_image
from fewstep.flow.guidance import Guidance
from fewstep.flow.sigmas import SigmaGrid
from fewstep.runtime.errors import LayoutError
from fewstep.runtime.task import Task

PATCH = 2  # side of the patch of latents in a token
MAX_TEXT = 512  # positions of a prompt that the pipeline's call keeps, those of its template included
TURBO_SHIFT = 3.0  # of Z-Image-Turbo's scheduler; Z-Image's is 6 (InvokeAI, pull request 8799, tells them apart by it)


class ZImage(PipelineBackbone):
    """The family Z-Image."""

    family: ClassVar[str] = "z-image"
    pipelines: ClassVar[Mapping[str, Any]] = {"ZImagePipeline": ZImagePipeline}
    transformer_class: ClassVar[Any] = ZImageTransformer2DModel
    encoding_version: ClassVar[int] = 1
    default_licence: ClassVar[Licence | str] = APACHE
    time_reversed: ClassVar[bool] = True
    attention_targets = ("attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0")
    lora_targets = (*attention_targets, "feed_forward.w1", "feed_forward.w2", "feed_forward.w3")
    # The pipeline guides by pos + w (pos - neg), so w is our scale less 1. The makers' page samples with w = 4.
    default_guidance = Guidance(5.0)
    default_steps = 50
    max_references = 0
    pixels_per_token: ClassVar[int] = 16
    size_multiple: ClassVar[int] = 16
    noise_patch: ClassVar[int] = PATCH

    def __init__(self, *given: Any, **named: Any):
        super().__init__(*given, **named)
        self.latent_channels = PATCH**2 * self._config["in_channels"]

    @classmethod
    def task_pipelines(cls, pipeline: str) -> dict[Task, str]:
        return {"t2i": pipeline}

    @classmethod
    def student_call(cls, steps: int, size: tuple[int, int], task: Task = "t2i") -> dict[str, Any]:
        """The class guides by default, and no entry of a folder turns that off."""
        return super().student_call(steps, size, task) | {"guidance_scale": 0.0}

    @classmethod
    def distilled(cls, folder: Path) -> str | None:
        config = read_json(folder / "scheduler" / "scheduler_config.json")
        turbo = not config.get("use_dynamic_shifting") and config.get("shift") == TURBO_SHIFT
        if not turbo and "turbo" not in folder.name.lower():
            return None
        return (
            f"is Z-Image-Turbo (its scheduler's shift is {config.get('shift', 1.0):g}): its makers distilled it "
            "already, and it follows no guidance. Take Tongyi-MAI/Z-Image, which it was made of"
        )

    @classmethod
    def tiny(cls, seed: int = 0) -> "ZImage":
        """A complete one with random weights that fits into a test."""
        return cls.from_pipeline(tiny_z_image.z_image_pipeline(seed), f"tiny:{seed}")

    # ---- the transformer

    def velocity(
        self, transformer: nn.Module, z_BND: Tensor, t_B: Tensor, cond: Conditioning, prefix: Prefix | None = None
    ) -> Tensor:
        """v(z, t | cond), shape BND, in z's dtype; computed in the dtype of the weights."""
        assert prefix is None, "attention is not causal: nothing is independent of t"
        assert z_BND.shape[1] == cond.layout.target_tokens, (z_BND.shape, cond.layout)
        dtype = self._dtype(transformer)
        z_BCFHW = unpacked(z_BND.to(dtype), cond.layout.target, PATCH)[:, :, None]
        texts = [text_LC[:length].to(dtype) for text_LC, length in zip(cond.text_BLC, cond.lengths_B, strict=True)]
        answers = transformer(
            list(z_BCFHW.unbind(0)),
            self.time_argument(t_B, dtype),
            texts,
            return_dict=False,
        )[0]
        return -packed(torch.stack(answers)[:, :, 0], PATCH).to(z_BND.dtype)

    def prefix(self, transformer: nn.Module, cond: Conditioning) -> Prefix | None:
        """None: the text attends to the target."""
        return None

    def sampling_grid(self, steps: int, target: TokenGrid) -> SigmaGrid:
        """Even steps, moved by the scheduler's shift, which is static in the makers' folders."""
        return SigmaGrid.of_scheduler(self._scheduler, steps, target[0] * target[1])

    @classmethod
    def time_argument(cls, t_B: Tensor, dtype: torch.dtype) -> Tensor:
        """1 - t, in float32 whatever the weights have, and in the pipeline's own order of rounding."""
        return (1000 - t_B.float() * 1000) / 1000

    @classmethod
    def _told(cls, t_B: Tensor, dtype: torch.dtype) -> Tensor:
        """Every time: the transformer embeds it in float32."""
        return t_B

    @classmethod
    def _first_weight(cls, transformer: nn.Module) -> Tensor:
        return untyped(transformer).all_x_embedder["2-1"].weight

    def noise_dtypes(self, task: Task, text: torch.dtype) -> tuple[torch.dtype, torch.dtype]:
        return torch.float32, torch.float32

    # ---- encoding and decoding

    @torch.no_grad()
    def encode(
        self, prompts: Sequence[str], references: Sequence[Image.Image] | None, size: tuple[int, int]
    ) -> list[Conditioning]:
        """One Conditioning (batch of 1) for each prompt.

        Raises:
            LayoutError: the size is off the grid, or there is a reference.
            ModelError: no text encoder was loaded.
        """
        pipeline, layout = self._require_encoder(), Layout("t2i", self.layout_grid(size))
        self.refuse_references(len(references or ()))
        fresh = list(prompts)  # the pipeline writes its template into the list that it is given
        texts, _ = pipeline.encode_prompt(fresh, pipeline.text_encoder.device, do_classifier_free_guidance=False)
        masks = [text_LC.new_ones((1, len(text_LC)), dtype=torch.bool) for text_LC in texts]
        return [Conditioning(text_LC[None], mask_1L, layout) for text_LC, mask_1L in zip(texts, masks, strict=True)]

    def refuse_references(self, count: int) -> None:
        if count:
            raise LayoutError(f"{self.source} draws from text and takes no references: {self.family} does not edit")

    @torch.no_grad()
    def encode_images(self, images: Sequence[Image.Image], size: tuple[int, int]) -> Tensor:
        """Packed clean latents (BND) of pictures brought to `size` (height, width)."""
        self.layout_grid(size)
        pipeline = self._require_pipeline("encode pictures")
        vae, (height, width) = pipeline.vae, size
        pixels = pipeline.image_processor.preprocess([image.convert("RGB") for image in images], height, width)
        latents = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mode()
        return packed((latents - vae.config.shift_factor) * vae.config.scaling_factor, PATCH)

    @torch.no_grad()
    def _decoded(self, x0_BND: Tensor, target: TokenGrid) -> Tensor:
        """The VAE's output (B, 3, H, W) in [-1, 1]."""
        vae = self._require_pipeline("decode latents").vae
        latents = unpacked(x0_BND, target, PATCH).to(vae.device, vae.dtype)
        return vae.decode(latents / vae.config.scaling_factor + vae.config.shift_factor, return_dict=False)[0]

    def _preprocessor_identity(self, pipeline: Any) -> list[bytes]:
        return [tokenizer_identity(pipeline.tokenizer)]
