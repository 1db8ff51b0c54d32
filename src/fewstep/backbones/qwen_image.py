"""Qwen-Image, 20 B: text to image and edits with 1 to 3 references by one transformer.

A folder of Qwen-Image or -2512 (QwenImagePipeline) does text to image. One of Qwen-Image-Edit-2509 or -2511
(QwenImageEditPlusPipeline) edits, and does text to image as well: the sequence of a text-to-image sample is that of an
edit without references. The prompts of each task are encoded with the template of its own pipeline. In edits the text
encoder sees the references, so its image positions count as text positions here, and are stored. Attention is not
causal, so there is no prefix.

All conventions are those of the two pipelines in diffusers 0.42, and contract tests compare the results with their own
calls.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn

from fewstep.backbones.backbone import Prefix
from fewstep.backbones.conditioning import (
    Conditioning,
)
from fewstep.backbones.edit_sizes import at_area
from fewstep.backbones.identity import config_identity, tokenizer_identity
from fewstep.backbones.layout import Layout, TokenGrid
from fewstep.backbones.licences import APACHE, Licence
from fewstep.backbones.pipeline_backbone import PipelineBackbone, untyped
from fewstep.backbones.stock import (
    QwenImageEditPlusPipeline,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    pipeline_qwenimage_edit_plus,
)
from fewstep.backbones.testing import tiny_qwen_image
from fewstep.flow.guidance import Guidance
from fewstep.flow.sigmas import SigmaGrid
from fewstep.runtime.errors import LayoutError
from fewstep.runtime.task import Task

DRAWS, EDITS = "QwenImagePipeline", "QwenImageEditPlusPipeline"
MAX_TEXT = 512  # positions of a prompt that the text-to-image pipeline's call keeps


class QwenImage(PipelineBackbone):
    """The family Qwen-Image, 20 B."""

    family: ClassVar[str] = "qwen-image"
    pipelines: ClassVar[Mapping[str, Any]] = {DRAWS: QwenImagePipeline, EDITS: QwenImageEditPlusPipeline}
    transformer_class: ClassVar[Any] = QwenImageTransformer2DModel
    encoding_version: ClassVar[int] = 1
    default_licence: ClassVar[Licence | str] = APACHE
    attention_targets = (*("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"),)
    lora_targets = (
        *attention_targets,
        *("img_mlp.net.0.proj", "img_mlp.net.2", "txt_mlp.net.0.proj", "txt_mlp.net.2"),
    )
    default_guidance = Guidance(4.0, keep_norm=True, negative=" ")  # the makers' negative prompt is one space
    default_steps = 50
    max_references = 3
    pixels_per_token: ClassVar[int] = 16
    size_multiple: ClassVar[int] = 16
    noise_patch: ClassVar[int] = 2

    def __init__(self, *given: Any, **named: Any):
        super().__init__(*given, **named)
        self.max_references = self.max_references_of(self._index)

    @classmethod
    def max_references_of(cls, index: Mapping[str, Any]) -> int:
        return 0 if index.get("_class_name") == DRAWS else cls.max_references

    @classmethod
    def task_pipelines(cls, pipeline: str) -> dict[Task, str]:
        return {"t2i": DRAWS, "edit": EDITS} if pipeline == EDITS else {"t2i": DRAWS}

    @classmethod
    def tiny(cls, seed: int = 0) -> "QwenImage":
        """A complete one with random weights that fits into a test; it edits."""
        return cls.from_pipeline(tiny_qwen_image.qwen_image_edit_pipeline(seed), f"tiny:{seed}")

    # ---- the transformer

    def velocity(
        self, transformer: nn.Module, z_BND: Tensor, t_B: Tensor, cond: Conditioning, prefix: Prefix | None = None
    ) -> Tensor:
        """v(z, t | cond), shape BND, in z's dtype; computed in the dtype of the weights."""
        assert prefix is None, "attention is not causal: nothing is independent of t"
        assert z_BND.shape[1] == cond.layout.target_tokens, (z_BND.shape, cond.layout)
        dtype = self._dtype(transformer)
        references = [] if cond.references_BRD is None else [cond.references_BRD.to(dtype)]
        v_BND = transformer(
            hidden_states=torch.cat([z_BND.to(dtype), *references], dim=1),
            timestep=self.time_argument(t_B, dtype),
            encoder_hidden_states=cond.text_BLC.to(dtype),
            encoder_hidden_states_mask=cond.mask_BL if cond.padded else None,
            img_shapes=[[(1, *grid) for grid in (cond.layout.target, *cond.layout.references)]] * len(cond),
            return_dict=False,
        )[0]
        return v_BND[:, : z_BND.shape[1]].to(z_BND.dtype)

    def prefix(self, transformer: nn.Module, cond: Conditioning) -> Prefix | None:
        """None: text and references attend to the target."""
        return None

    def sampling_grid(self, steps: int, target: TokenGrid) -> SigmaGrid:
        """Even steps, moved by the scheduler's shift. Teachers have a dynamic shift."""
        return SigmaGrid.of_scheduler(self._scheduler, steps, target[0] * target[1])

    @classmethod
    def _first_weight(cls, transformer: nn.Module) -> Tensor:
        return untyped(transformer).img_in.weight

    # ---- encoding and decoding

    @torch.no_grad()
    def encode(
        self, prompts: Sequence[str], references: Sequence[Image.Image] | None, size: tuple[int, int]
    ) -> list[Conditioning]:
        """One Conditioning (batch of 1) for each prompt, all with the same references.

        Raises:
            LayoutError: the size is off the grid, there are more than 3 references, or any for a model that draws from
                text only.
            ModelError: no text encoder was loaded.
        """
        pipeline, images, target = self._require_encoder(), list(references or ()), self.layout_grid(size)
        self.refuse_references(len(images))
        if not images:
            layout = Layout("t2i", target)
            return [Conditioning(*encoded, layout) for encoded in self._prompts(pipeline, prompts)]
        layout = Layout("edit", target, tuple(self.layout_grid(reference_size(image)) for image in images))
        latents = torch.cat([self._latents(image.convert("RGB"), reference_size(image)) for image in images], dim=1)
        texts = self._instructions(pipeline, prompts, images)
        return [Conditioning(*encoded, layout, latents) for encoded in texts]

    @classmethod
    def size_of_edit(cls, references: Sequence[tuple[int, int]], area: int) -> tuple[int, int]:
        """The shape of the last reference at this area, in steps of 32 px, as for references."""
        return at_area(references[-1], area)

    @torch.no_grad()
    def encode_images(self, images: Sequence[Image.Image], size: tuple[int, int]) -> Tensor:
        """Packed clean latents (BND) of pictures brought to `size` (height, width)."""
        self.layout_grid(size)
        return torch.cat([self._latents(image.convert("RGB"), size) for image in images])

    @torch.no_grad()
    def _decoded(self, x0_BND: Tensor, target: TokenGrid) -> Tensor:
        """The VAE's output (B, 3, H, W) in [-1, 1]."""
        pipeline = self._require_pipeline("decode latents")
        vae, (rows, columns) = pipeline.vae, target
        side = self.pixels_per_token
        latents = pipeline._unpack_latents(x0_BND, rows * side, columns * side, pipeline.vae_scale_factor)
        mean, std = self._statistics(vae)
        latents = latents.to(vae.device, vae.dtype) / (1.0 / std) + mean  # in the pipeline's own order of rounding
        return vae.decode(latents, return_dict=False)[0][:, :, 0]

    def _prompts(self, pipeline: Any, prompts: Sequence[str]) -> list[tuple[Tensor, Tensor]]:
        """Text (1, L, C) and mask (1, L) of each prompt, with the text-to-image template."""
        device = pipeline.text_encoder.device
        embeds_BLC, mask_BL = _drawing(pipeline).encode_prompt(list(prompts), device, max_sequence_length=MAX_TEXT)
        mask_BL = embeds_BLC.new_ones(embeds_BLC.shape[:2]) if mask_BL is None else mask_BL
        return [_whole(embeds_LC[mask_L.bool()][None]) for embeds_LC, mask_L in zip(embeds_BLC, mask_BL, strict=True)]

    def _instructions(
        self, pipeline: Any, prompts: Sequence[str], images: Sequence[Image.Image]
    ) -> list[tuple[Tensor, Tensor]]:
        """Text (1, L, C) with its image positions, and mask (1, L), of each prompt, with the edit template.

        The pipeline accepts one prompt at a time.
        """
        device = pipeline.text_encoder.device
        seen = [self._seen(pipeline, image) for image in images]
        return [_whole(pipeline.encode_prompt([prompt], seen, device)[0]) for prompt in prompts]

    def _seen(self, pipeline: Any, image: Image.Image) -> Image.Image:
        """A reference as the text encoder sees it."""
        height, width = _at_area(image, pipeline_qwenimage_edit_plus.CONDITION_IMAGE_SIZE)
        return pipeline.image_processor.resize(image.convert("RGB"), height, width)

    def _latents(self, image: Image.Image, size: tuple[int, int]) -> Tensor:
        """Clean latents (1, N, D) of a picture: the mode of the VAE's posterior, normalised and packed."""
        pipeline, (height, width) = self._require_pipeline("encode pictures"), size
        vae = pipeline.vae
        pixels = pipeline.image_processor.preprocess(image, height, width)[:, :, None]
        mean, std = self._statistics(vae)
        latents = (vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mode() - mean) / std
        return pipeline._pack_latents(latents, 1, latents.shape[1], *latents.shape[3:])

    def _statistics(self, vae: Any) -> tuple[Tensor, Tensor]:
        both = (vae.config.latents_mean, vae.config.latents_std)
        mean, std = (torch.tensor(values).view(1, -1, 1, 1, 1).to(vae.device, vae.dtype) for values in both)
        return mean, std

    def refuse_references(self, count: int) -> None:
        if count and not self.max_references:
            raise LayoutError(
                f"{self.source} is a {DRAWS}: it draws from text and takes no references. For edits give a model of "
                f"{EDITS} (Qwen-Image-Edit-2509, -2511); it draws from text as well"
            )
        super().refuse_references(count)

    def _preprocessor_identity(self, pipeline: Any) -> list[bytes]:
        tokenizer = tokenizer_identity(pipeline.tokenizer)
        if isinstance(pipeline, QwenImagePipeline):
            return [tokenizer]
        return [tokenizer, config_identity(pipeline.processor.image_processor.to_dict())]


def reference_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) in px of a reference: its own shape at an area of 1024 x 1024 px, in steps of 32 px.

    The target's size has no influence. If the target has another area, an edit changes its scale against the reference.
    """
    return _at_area(image, pipeline_qwenimage_edit_plus.VAE_IMAGE_SIZE)


def _at_area(image: Image.Image, area: int) -> tuple[int, int]:
    width, height = pipeline_qwenimage_edit_plus.calculate_dimensions(area, image.width / image.height)
    return height, width


def _drawing(pipeline: Any) -> Any:
    """The text-to-image pipeline over the same parts. Its prompt template differs from that of the edit pipeline."""
    if isinstance(pipeline, QwenImagePipeline):
        return pipeline
    names = ("scheduler", "vae", "text_encoder", "tokenizer", "transformer")
    return QwenImagePipeline(**{name: pipeline.components[name] for name in names})


def _whole(text_1LC: Tensor) -> tuple[Tensor, Tensor]:
    """A text, and a mask that is True everywhere: nothing is padded."""
    return text_1LC, text_1LC.new_ones(text_1LC.shape[:2], dtype=torch.bool)
