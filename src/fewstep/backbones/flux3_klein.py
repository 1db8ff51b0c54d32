"""FLUX 3 Image Klein, 5.6 B: text to image, and edits with up to ten references, by one transformer.

Text, target and references first pass through blocks of their own kind, and then through joint ones. Text and
references are modulated as at t = 0. diffusers has a modular pipeline for it and no other (`flux3_pipeline.py`).

The transformer reads eight hidden states of its text encoder, 20,480 channels, and its first layer projects them to its
own 3,072: the answer of that layer is what is encoded and stored (`projected_text.py`). A text fills a window of a
multiple of 80 positions, and the transformer attends to all of them, padding included. What is padded further beside a
longer text is masked (`flux3_forward.py`).

A reference that stands alone keeps its size up to 4 megapixels, and is padded to whole tokens. Of several each is
reduced to a megapixel and cropped. All conventions are those of Flux3ModularPipeline in diffusers 0.42, and contract
tests compare the results with its own call.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn

from fewstep.backbones.backbone import Prefix
from fewstep.backbones.conditioning import Conditioning
from fewstep.backbones.edit_sizes import flux3_size
from fewstep.backbones.flux3_forward import forward_flux3
from fewstep.backbones.flux3_pipeline import SCHEDULER, UPSAMPLER, Flux3Parts
from fewstep.backbones.folder import MODULAR_INDEX, read_index, read_json
from fewstep.backbones.identity import tokenizer_identity
from fewstep.backbones.layout import Layout, TokenGrid
from fewstep.backbones.licences import Licence
from fewstep.backbones.modular_index import part_entry
from fewstep.backbones.pipeline_backbone import Parts, PipelineBackbone, untyped
from fewstep.backbones.projected_text import LAYER
from fewstep.backbones.stock import (
    Flux3TextEncoderStep,
    Flux3Transformer2DModel,
    Flux3VaeEncoderStep,
    VaeImageProcessor,
)
from fewstep.backbones.testing import tiny_flux3
from fewstep.flow.guidance import Guidance
from fewstep.flow.sigmas import SigmaGrid
from fewstep.runtime.errors import ModelError

PIPELINE, DISTILLED = "Flux3ModularPipeline", "Flux3DistilledModularPipeline"
KOMMUNITY = Licence("other", "FLUX Kommunity License", "LICENSE.md")
FULL_PRECISION = ("norm_q", "norm_k")  # which the stock class keeps in float32


class Flux3Klein(PipelineBackbone):
    """The family FLUX 3 Image Klein. A distilled one is known by its second time embedder (`flow_map`), and refused."""

    family: ClassVar[str] = "flux3-klein"
    pipelines: ClassVar[Mapping[str, Any]] = {PIPELINE: Flux3Parts, DISTILLED: Flux3Parts}
    transformer_class: ClassVar[Any] = Flux3Transformer2DModel
    encoding_version: ClassVar[int] = 1
    default_licence: ClassVar[Licence | str] = KOMMUNITY
    attention_targets = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0")
    lora_targets = (*attention_targets, "ff.linear_in", "ff.linear_out")
    encoded_layers: ClassVar[tuple[str, ...]] = (LAYER,)
    default_guidance = Guidance(3.5)
    default_steps = 50
    max_references = 10
    pixels_per_token: ClassVar[int] = 16
    size_multiple: ClassVar[int] = 16
    own_scheduler: ClassVar[Mapping[str, Any] | None] = SCHEDULER
    blocks: ClassVar[str | None] = "Flux3AutoBlocks"
    left_out_blocks: ClassVar[tuple[str, ...]] = (UPSAMPLER,)
    not_carried: ClassVar[tuple[str, ...]] = (MODULAR_INDEX, "guider", UPSAMPLER)

    @classmethod
    def distilled(cls, folder: Path) -> str | None:
        if not cls._config_in(folder).get("flow_map") and read_index(folder).get("_class_name") != DISTILLED:
            return None
        return (
            "is a distilled FLUX 3 (flow_map in its transformer's config): its makers made it for 16 steps without "
            "guidance, and it is told where each step ends. Take black-forest-labs/flux-3-image-klein-base"
        )

    @classmethod
    def inspect(cls, folder: Path, parts: Parts = "all") -> dict[str, Any]:
        if found := cls.distilled(folder):
            raise ModelError(f"{folder} {found}")
        return super().inspect(folder, parts)

    @classmethod
    def scheduler_in(cls, folder: Path) -> dict[str, Any]:
        """A folder that holds none has the stock blocks' own."""
        named = "scheduler" in read_json(folder / MODULAR_INDEX) or (folder / "scheduler").is_dir()
        return super().scheduler_in(folder) if named else dict(SCHEDULER)

    @classmethod
    def student_files(cls, base: Path, added: Mapping[str, Any]) -> dict[str, Any]:
        """The index names scheduler and guider, which the stock blocks would make anew, and no place but the folder."""
        index = read_index(base) | {"scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"]}
        index |= {"guider": ["diffusers", "ClassifierFreeGuidance"]}
        index.pop(UPSAMPLER, None)
        named = {key: value for key, value in index.items() if isinstance(value, list)}
        entries = {name: part_entry(name, *entry) for name, entry in named.items()}
        guider = {"_class_name": "ClassifierFreeGuidance", "guidance_scale": 1.0, "enabled": False}
        return {MODULAR_INDEX: {**index, **entries, **added}, "guider/guider_config.json": guider}

    @classmethod
    def from_pipeline(cls, pipeline: Any, source: str = "memory", folder: Path | None = None) -> "Flux3Klein":
        pipeline.set_progress_bar_config(disable=True)
        index = {"_class_name": PIPELINE}
        return cls(pipeline.transformer, pipeline.scheduler.config, index, pipeline, source, folder)

    @classmethod
    def random(cls, *given: Any, **named: Any) -> "Flux3Klein":
        made = super().random(*given, **named)
        for name, parameter in made.transformer.named_parameters():
            if name.split(".")[-2] in FULL_PRECISION:
                parameter.data = parameter.data.float()
        return made

    @classmethod
    def tiny(cls, seed: int = 0) -> "Flux3Klein":
        """A complete one with random weights that fits into a test."""
        return cls.from_pipeline(tiny_flux3.flux3_pipeline(seed), f"tiny:{seed}")

    # ---- the transformer

    def velocity(
        self, transformer: nn.Module, z_BND: Tensor, t_B: Tensor, cond: Conditioning, prefix: Prefix | None = None
    ) -> Tensor:
        """v(z, t | cond), shape BND, in z's dtype; computed in the dtype of the weights."""
        assert prefix is None, "no prefix is kept: only the first blocks are independent of t"
        assert z_BND.shape[1] == cond.layout.target_tokens, (z_BND.shape, cond.layout)
        dtype = self._dtype(transformer)
        references = None if cond.references_BRD is None else cond.references_BRD.to(dtype)
        text_BLC, time_B = cond.text_BLC.to(dtype), self.time_argument(t_B, dtype)
        v_BND = forward_flux3(transformer, z_BND.to(dtype), time_B, text_BLC, cond.lengths_B, references, cond.layout)
        return v_BND.to(z_BND.dtype)

    def prefix(self, transformer: nn.Module, cond: Conditioning) -> Prefix | None:
        """None: in the joint blocks text and references attend to the target."""
        return None

    def sampling_grid(self, steps: int, target: TokenGrid) -> SigmaGrid:
        """Even steps, moved by the scheduler's static shift."""
        return SigmaGrid.of_scheduler(self._scheduler, steps, target[0] * target[1])

    @classmethod
    def time_argument(cls, t_B: Tensor, dtype: torch.dtype) -> Tensor:
        return t_B.to(dtype)

    @classmethod
    def _told(cls, t_B: Tensor, dtype: torch.dtype) -> Tensor:
        """The stock transformer multiplies its argument by 1,000 before it embeds it, in the latents' dtype."""
        return (t_B.to(dtype) * 1000).float() / 1000

    @classmethod
    def _first_weight(cls, transformer: nn.Module) -> Tensor:
        return untyped(transformer).x_embedders["image"].weight

    def noise_dtypes(self, task: Any, text: torch.dtype) -> tuple[torch.dtype, torch.dtype]:
        return torch.float32, text

    # ---- encoding and decoding

    @torch.no_grad()
    def encode(
        self, prompts: Sequence[str], references: Sequence[Image.Image] | None, size: tuple[int, int]
    ) -> list[Conditioning]:
        """One Conditioning (batch of 1) for each prompt, all with the same references. Its texts are projected.

        Raises:
            LayoutError: the size is off the grid, or there are more than 10 references.
            ModelError: no text encoder was loaded.
        """
        pipeline, images, target = self._require_encoder(), list(references or ()), self.layout_grid(size)
        self.refuse_references(len(images))
        mode = "fill" if len(images) == 1 else "crop"
        prepared = [pipeline.image_processor.preprocess(image, resize_mode=mode)[0] for image in images]
        grids = tuple(self.layout_grid((pixels.shape[2], pixels.shape[3])) for pixels in prepared)
        latents = torch.cat([self._latents(pixels) for pixels in prepared], dim=1) if images else None
        layout = Layout("edit" if images else "t2i", target, grids)
        texts = [self._text(pipeline, prompt) for prompt in prompts]
        masks = [text.new_ones(text.shape[:2], dtype=torch.bool) for text in texts]
        return [Conditioning(text, mask, layout, latents) for text, mask in zip(texts, masks, strict=True)]

    def _text(self, pipeline: Any, prompt: str) -> Tensor:
        """A prompt in its window, (1, L, C), projected."""
        encoder = pipeline.text_encoder
        encode = Flux3TextEncoderStep._get_qwen3_vl_prompt_embeds
        return self._projected(encode(encoder, pipeline.tokenizer, prompt, encoder.device))

    @classmethod
    def size_of_edit(cls, references: Sequence[tuple[int, int]], area: int) -> tuple[int, int]:
        """What is used of the first reference."""
        return flux3_size(references)

    @torch.no_grad()
    def encode_images(self, images: Sequence[Image.Image], size: tuple[int, int]) -> Tensor:
        """Packed clean latents (BND) of pictures brought to `size` (height, width)."""
        self.layout_grid(size)
        processor = self._require_pipeline("encode pictures").image_processor
        resized = [image.convert("RGB").resize(size[::-1]) for image in images]
        return torch.cat([self._latents(VaeImageProcessor.preprocess(processor, each, *size)) for each in resized])

    @torch.no_grad()
    def _decoded(self, x0_BND: Tensor, target: TokenGrid) -> Tensor:
        """The VAE's output (B, 3, H, W) in [-1, 1]."""
        vae = self._require_pipeline("decode latents").vae
        latents = x0_BND.transpose(1, 2).unflatten(2, target).to(vae.device)
        mean, std = _statistics(vae, latents)
        latents = (latents * std + mean).unflatten(1, (-1, 2, 2)).permute(0, 1, 4, 2, 5, 3).flatten(4).flatten(2, 3)
        # One by one, as the pipeline has them: in a batch convolutions are rounded otherwise.
        return torch.cat([vae.decode(one[None], return_dict=False)[0] for one in latents.to(vae.dtype)])

    def _latents(self, pixels: Tensor) -> Tensor:
        """Clean latents (1, N, D) of a picture: the mode of the VAE's posterior, in patches of 2 x 2, normalised."""
        vae = self._require_pipeline("encode pictures").vae
        latents = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mode()
        latents = Flux3VaeEncoderStep._patchify_latents(latents)
        mean, std = _statistics(vae, latents)
        return ((latents - mean) / std).flatten(2).transpose(1, 2)

    # ---- what conditionings depend on

    def _preprocessor_identity(self, pipeline: Any) -> list[bytes]:
        return [tokenizer_identity(pipeline.tokenizer.tokenizer), str(pipeline.tokenizer.chat_template).encode()]


def _statistics(vae: Any, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of latents in patches, in their dtype."""
    mean, variance = (each.view(1, -1, 1, 1) for each in (vae.bn.running_mean, vae.bn.running_var))
    return mean.to(latents), torch.sqrt(variance + vae.config.batch_norm_eps).to(latents)
