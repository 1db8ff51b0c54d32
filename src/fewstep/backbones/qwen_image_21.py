"""Qwen-Image 2.1: text to image and edits with 1 to 10 references in one block-causal transformer.

The stock diffusers classes do the work; this file adapts them to the interface in `backbones/backbone.py`. Text and
reference tokens are modulated with t = 0 and never attend to the target (`causal_condition`). So their keys and values
are the same at every t, and can be computed once (`Prefix`). All conventions are those of QwenImage21Pipeline in
diffusers 0.42, and contract tests compare the results with its own call.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor, nn

from fewstep.backbones.backbone import Prefix
from fewstep.backbones.conditioning import (
    Conditioning,
)
from fewstep.backbones.edit_sizes import on_own_grid, reference_resolution
from fewstep.backbones.encode_request import EncodeRequest, encode_in_groups
from fewstep.backbones.identity import config_identity
from fewstep.backbones.interleave import slot_count, slot_positions
from fewstep.backbones.joint_sequence import forward_joint
from fewstep.backbones.layout import Layout, TokenGrid
from fewstep.backbones.licences import Licence
from fewstep.backbones.pipeline_backbone import PipelineBackbone, untyped
from fewstep.backbones.stock import (
    QwenImage21KVCache,
    QwenImage21Pipeline,
    QwenImage21Transformer2DModel,
    calculate_dimensions,
)
from fewstep.backbones.testing import tiny_qwen_image_21
from fewstep.flow.guidance import NO_GUIDANCE
from fewstep.flow.sigmas import SigmaGrid, shifted
from fewstep.runtime.errors import LayoutError, ModelError
from fewstep.runtime.task import Task


class QwenImage21(PipelineBackbone):
    """The family Qwen-Image 2.1."""

    family: ClassVar[str] = "qwen-image-2.1"
    pipelines: ClassVar[Mapping[str, Any]] = {"QwenImage21Pipeline": QwenImage21Pipeline}
    transformer_class: ClassVar[Any] = QwenImage21Transformer2DModel
    encoding_version: ClassVar[int] = 1
    batches_edits: ClassVar[bool] = True
    reads_sample_sigmas: ClassVar[bool] = True
    default_licence: ClassVar[Licence | str] = Licence("other", "Qwen-Image-2.1's research licence")
    attention_targets = ("to_q", "to_k", "to_v", "to_out.0")
    lora_targets = (*attention_targets, "img_mlp.proj", "img_mlp.gate_layer", "img_mlp.out")
    default_guidance = NO_GUIDANCE
    default_steps = 40
    max_references = 10
    pixels_per_token: ClassVar[int] = 16
    size_multiple: ClassVar[int] = 32

    @classmethod
    def student_call(cls, steps: int, size: tuple[int, int], task: Task = "t2i") -> dict[str, Any]:
        """References are resized to the target's area. The number of steps is in the folder itself."""
        return {"output_resolution": reference_resolution(size)}

    @classmethod
    def tiny(cls, seed: int = 0) -> "QwenImage21":
        """A complete one with random weights that fits into a test."""
        return cls.from_pipeline(tiny_qwen_image_21.qwen_image_21_pipeline(seed), f"tiny:{seed}")

    # ---- the transformer

    def velocity(
        self, transformer: nn.Module, z_BND: Tensor, t_B: Tensor, cond: Conditioning, prefix: Prefix | None = None
    ) -> Tensor:
        """v(z, t | cond), shape BND, in z's dtype; computed in the dtype of the weights."""
        assert z_BND.shape[1] == cond.layout.target_tokens, (z_BND.shape, cond.layout)
        target = cond.layout.target
        cache = None if prefix is None else _filled(prefix)
        v_BND = self._forward(transformer, z_BND, t_B, cond, target, cache, None if cache is None else "cached")
        return v_BND.to(z_BND.dtype)

    def prefix(self, transformer: nn.Module, cond: Conditioning) -> Prefix | None:
        """Keys and values of text and references; None for a model without `causal_condition`.

        They depend neither on the target nor on t, so they are computed with an empty target.
        """
        if not untyped(transformer).config.causal_condition:
            return None
        cache = QwenImage21KVCache(len(untyped(transformer).transformer_blocks))
        nothing_BND = cond.text_BLC.new_zeros(len(cond), 0, self.latent_channels)
        self._forward(transformer, nothing_BND, nothing_BND.new_ones(len(cond)), cond, (0, 0), cache, "extract")
        return Prefix(tuple((layer.k, layer.v) for layer in cache.layer_caches))

    def _forward(
        self,
        transformer: nn.Module,
        z_BND: Tensor,
        t_B: Tensor,
        cond: Conditioning,
        target: TokenGrid,
        cache: QwenImage21KVCache | None,
        mode: Literal["extract", "cached"] | None,
    ) -> Tensor:
        dtype = self._dtype(transformer)
        references_BRD = None if cond.references_BRD is None else cond.references_BRD.to(dtype)
        return forward_joint(
            transformer,
            z_BND.to(dtype),
            references_BRD,
            cond.text_BLC.to(dtype),
            cond.mask_BL if cond.padded else None,
            cond.lengths_B,
            self.time_argument(t_B, dtype),
            cond.layout,
            target,
            cache,
            mode,
        )

    def sampling_grid(self, steps: int, target: TokenGrid) -> SigmaGrid:
        """The pipeline's own grid: its `sample_sigmas` if there are as many as `steps`, or else even steps. The
        scheduler's shift is applied to either."""
        tokens = target[0] * target[1]
        sample_sigmas = self._index.get("sample_sigmas")
        if sample_sigmas is None or len(sample_sigmas) != steps:
            return SigmaGrid.of_scheduler(self._scheduler, steps, tokens)
        if self._scheduler.get("shift_terminal"):
            raise ModelError(f"{self.source} has sample_sigmas and a shift_terminal; give the grid as a list of sigmas")
        shift = self.sampling_shift(steps, target)
        return SigmaGrid.of([shifted(sigma, shift) for sigma in sample_sigmas])

    @classmethod
    def student_levels(
        cls, index: Mapping[str, Any], scheduler: Mapping[str, Any], steps: int, tokens: int
    ) -> SigmaGrid:
        """Those of its `sample_sigmas`, shifted, for a base that has as many."""
        own = index.get("sample_sigmas")
        if own is None or len(own) != steps:
            return super().student_levels(index, scheduler, steps, tokens)
        shift = cls.scheduler_shift(scheduler, steps, tokens)
        return SigmaGrid.of([shifted(sigma, shift) for sigma in own])

    @classmethod
    def _first_weight(cls, transformer: nn.Module) -> Tensor:
        return untyped(transformer).img_in.weight

    # ---- encoding and decoding

    def encode(
        self, prompts: Sequence[str], references: Sequence[Image.Image] | None, size: tuple[int, int]
    ) -> list[Conditioning]:
        """One Conditioning (batch of 1) for each prompt, all with the same references.

        Raises:
            LayoutError: the size is off the grid, or there are more than 10 references.
            ModelError: no text encoder was loaded, or its processor resizes references on its own.
        """
        return self.encode_batch([EncodeRequest(tuple(prompts), tuple(references or ()), size)])[0]

    @torch.no_grad()
    def encode_batch(self, requests: Sequence[EncodeRequest]) -> list[list[Conditioning]]:
        """`encode` of several requests. Those whose references get the same grids go through text encoder and VAE
        together."""
        self._require_encoder()
        for request in requests:
            self.refuse_references(len(request.references))
        return encode_in_groups(requests, self._grids, self._encode_alike)

    def _grids(self, request: EncodeRequest) -> tuple[TokenGrid, ...]:
        """The grid of the target, then those of the references."""
        references = (self._reference_grid(image, request.size) for image in request.references)
        return self.layout_grid(request.size), *references

    def _encode_alike(self, alike: Sequence[EncodeRequest]) -> list[list[Conditioning]]:
        """Requests of the same grids, in one pass through text encoder and VAE."""
        pipeline, size = self._require_encoder(), alike[0].size
        target, *references = self._grids(alike[0])
        grids = tuple(references)
        resized = [[self._resized(image, size) for image in one.references] for one in alike]
        asked = [(prompt, seen) for one, seen in zip(alike, resized, strict=True) for prompt in one.prompts]
        embeds_BSC, mask_BS, slots_BS = pipeline.encode_prompt(
            [prompt for prompt, _ in asked],
            image=_InTurn([seen for _, seen in asked]) if grids else None,
            device=pipeline.text_encoder.device,
        )
        if int(slots_BS[0].sum()) != sum(map(slot_count, grids)):
            raise ModelError(
                f"the processor of {self.source} makes {int(slots_BS[0].sum())} image slots of references that need "
                f"{sum(map(slot_count, grids))}: it resizes them on its own. "
                "Widen the size range in its image processor's config so that it admits them"
            )
        layout = Layout("edit" if grids else "t2i", target, grids, slot_positions(slots_BS[0], grids))
        valid_BS = ~slots_BS if mask_BS is None else mask_BS.bool() & ~slots_BS
        texts = iter([embeds[valid][None] for embeds, valid in zip(embeds_BSC, valid_BS, strict=True)])
        columns = [self._latents(pictures) for pictures in zip(*resized, strict=True)]
        latents = torch.cat(columns, dim=1).split(1) if columns else [None] * len(alike)
        return [
            [_whole(next(texts), layout, latents_1RD) for _ in one.prompts]
            for one, latents_1RD in zip(alike, latents, strict=True)
        ]

    @classmethod
    def size_of_edit(cls, references: Sequence[tuple[int, int]], area: int) -> tuple[int, int]:
        """A size at which the last reference gets exactly the size of the target."""
        return on_own_grid(references[-1], area)

    @torch.no_grad()
    def encode_images(self, images: Sequence[Image.Image], size: tuple[int, int]) -> Tensor:
        """Packed clean latents (BND) of pictures resized as the pipeline resizes references to `size`.

        Raises:
            LayoutError: pictures of different shapes, which get different grids.
        """
        grids = {self._reference_grid(image, size) for image in images}
        if len(grids) > 1:
            raise LayoutError(f"pictures of one batch share a shape; these get the grids {sorted(grids)}")
        return torch.cat([self._latents([self._resized(image, size)]) for image in images])

    @torch.no_grad()
    def _decoded(self, x0_BND: Tensor, target: TokenGrid) -> Tensor:
        """The VAE's output (B, 4, H, W) in [-1, 1]."""
        vae = self._require_pipeline("decode latents").vae
        mean, std = self._statistics(vae.device, vae.dtype)
        latents = x0_BND.transpose(1, 2).unflatten(2, target)[:, :, None].to(vae.device, vae.dtype)
        return vae.decode(latents * std + mean, return_dict=False)[0][:, :, 0]

    def _reference_size(self, image: Image.Image, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) in px of a reference: its own shape at the target's area, in steps of 32 px."""
        width, height, _ = calculate_dimensions(reference_resolution(size) ** 2, image.width / image.height)
        return height, width

    def _reference_grid(self, image: Image.Image, size: tuple[int, int]) -> TokenGrid:
        return self.layout_grid(self._reference_size(image, size))

    def _resized(self, image: Image.Image, size: tuple[int, int]) -> Image.Image:
        """A reference as text encoder and VAE see it."""
        height, width = self._reference_size(image, size)
        return self._require_pipeline("encode pictures").image_processor.resize(image.convert("RGBA"), height, width)

    def _latents(self, resized: Sequence[Image.Image]) -> Tensor:
        """Clean latents (BND) of resized references of one size: the mode of the VAE's posterior, normalised."""
        pipeline = self._require_pipeline("encode pictures")
        prepared = [pipeline.image_processor.preprocess(image, image.height, image.width) for image in resized]
        pixels = torch.cat(prepared)[:, :, None]
        posterior = pipeline.vae.encode(pixels.to(pipeline.vae.device, pipeline.vae.dtype)).latent_dist
        mean, std = self._statistics(pipeline.vae.device, pipeline.vae.dtype)
        return ((posterior.mode() - mean) / std).flatten(2).transpose(1, 2)

    def _statistics(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        config = self._require_pipeline("reach the VAE").vae.config
        mean, std = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in (config.latents_mean, config.latents_std))
        return mean.to(device, dtype), std.to(device, dtype)

    def _preprocessor_identity(self, pipeline: Any) -> list[bytes]:
        tokenizer = pipeline.processor.tokenizer.backend_tokenizer.to_str().encode()
        return [tokenizer, config_identity(pipeline.processor.image_processor.to_dict())]


class _InTurn(list[Any]):
    """The references of several prompts, for the stock pipeline, which takes one list of them for all its prompts. It
    reads the list once for each prompt, in order. Each reading gives the references of the next one. Its length is
    their number, which is the same for all prompts."""

    def __init__(self, of_each_prompt: Sequence[Sequence[Image.Image]]):
        super().__init__(of_each_prompt[0])
        self._next = iter(of_each_prompt)

    def __iter__(self) -> Iterator[Any]:
        return iter(next(self._next))


def _whole(text_1LC: Tensor, layout: Layout, latents: Tensor | None) -> Conditioning:
    """A conditioning in which no text position is padded."""
    return Conditioning(text_1LC, text_1LC.new_ones(text_1LC.shape[:2], dtype=torch.bool), layout, latents)


def _filled(prefix: Prefix) -> QwenImage21KVCache:
    """A fresh stock cache with the prefix's keys and values, for one forward.

    It must be fresh. The recomputation of gradient checkpointing writes into the cache into which the prefix was
    extracted. Forwards must not read that one.
    """
    cache = QwenImage21KVCache(len(prefix.cache))
    for layer, (keys, values) in zip(cache.layer_caches, prefix.cache, strict=True):
        layer.store(keys, values)
    return cache
