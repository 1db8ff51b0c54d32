"""FLUX.2 klein: text to image and edits by one transformer, of 4 B (for a 24 GB card) or 9 B.

Every prompt fills 512 text positions, padding included. The transformer attends to all of them, as in its training, so
there is no mask. Texts are stored as the transformer's first layer answers to them (`projected_text.py`): 3,072
channels of 4 B in the place of 7,680, 4,096 of 9 B in the place of 12,288. References keep their own size up to 1024 x
1024 px, and are cropped (not resized) to the grid of 16 px. Latents are normalised by the VAE's running statistics. All
conventions are those of Flux2KleinPipeline in diffusers 0.42, and contract tests compare the results with its own call.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn

from fewstep.backbones.backbone import Prefix
from fewstep.backbones.conditioning import (
    Conditioning,
)
from fewstep.backbones.edit_sizes import klein_fault, klein_size
from fewstep.backbones.encode_request import EncodeRequest, encode_in_groups
from fewstep.backbones.folder import read_json
from fewstep.backbones.identity import tokenizer_identity
from fewstep.backbones.layout import Layout, TokenGrid
from fewstep.backbones.licences import APACHE, Licence
from fewstep.backbones.pipeline_backbone import PipelineBackbone, untyped
from fewstep.backbones.projected_text import LAYER, take_projected_text
from fewstep.backbones.stock import (
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    compute_empirical_mu,
)
from fewstep.backbones.testing import tiny_flux2_klein
from fewstep.flow.guidance import NO_GUIDANCE, Guidance
from fewstep.flow.sigmas import SigmaGrid, scheduler_shift
from fewstep.runtime.device import to_device
from fewstep.runtime.errors import LayoutError
from fewstep.runtime.task import Task

MAX_AREA = 1024 * 1024  # px of a reference; a larger one is made smaller
TEXT_4B = 7680  # text channels of the 4 B model; the 9 B one has 12,288
NON_COMMERCIAL = Licence("other", "FLUX Non-Commercial License")  # of the 9 B models
REFERENCE_STEP = 10  # of the time axis of positions, from one reference to the next


class Flux2Klein(PipelineBackbone):
    """The family FLUX.2 klein. A model that its makers already distilled (`is_distilled`) is sampled without
    guidance."""

    family: ClassVar[str] = "flux2-klein"
    pipelines: ClassVar[Mapping[str, Any]] = {"Flux2KleinPipeline": Flux2KleinPipeline}
    transformer_class: ClassVar[Any] = Flux2Transformer2DModel
    encoding_version: ClassVar[int] = 2
    batches_edits: ClassVar[bool] = True
    student_index: ClassVar[Mapping[str, Any]] = {"is_distilled": True}  # the stock call then leaves guidance out
    default_licence: ClassVar[Licence | str] = APACHE
    attention_targets = (  # to_qkv_mlp_proj and to_out: of single blocks, where attention and MLP share their layers
        *("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"),
        *("to_qkv_mlp_proj", "to_out"),
    )
    lora_targets = (
        *attention_targets,
        *("ff.linear_in", "ff.linear_out", "ff_context.linear_in", "ff_context.linear_out"),
    )
    encoded_layers: ClassVar[tuple[str, ...]] = (LAYER,)
    default_guidance = Guidance(4.0)
    default_steps = 50
    max_references = 4  # ours; the pipeline sets no limit
    pixels_per_token: ClassVar[int] = 16
    size_multiple: ClassVar[int] = 16

    def __init__(self, *given: Any, **named: Any):
        super().__init__(*given, **named)
        self.default_guidance, self.default_steps = self.default_sampling(self._index)

    @classmethod
    def default_sampling(cls, index: Mapping[str, Any]) -> tuple[Guidance, int]:
        return (NO_GUIDANCE, 4) if index.get("is_distilled") else super().default_sampling(index)

    @classmethod
    def makers_licence(cls, config: Mapping[str, Any]) -> Licence:
        return NON_COMMERCIAL if config.get("joint_attention_dim", 0) > TEXT_4B else super().makers_licence(config)

    @classmethod
    def distilled(cls, folder: Path) -> str | None:
        if not read_json(folder / "model_index.json").get("is_distilled"):
            return None
        return (
            "is a distilled FLUX.2 klein (is_distilled in its model_index.json): its makers made it for 4 steps "
            "without guidance. Take the base model of its size, such as black-forest-labs/FLUX.2-klein-base-4B"
        )

    @classmethod
    def lora_call(cls, grid: Sequence[float], size: tuple[int, int], task: Task = "t2i") -> dict[str, Any]:
        """The base lacks the student's `is_distilled`, so the stock call must be told not to use guidance."""
        return super().lora_call(grid, size, task) | {"guidance_scale": 1.0}

    @classmethod
    def tiny(cls, seed: int = 0) -> "Flux2Klein":
        """A complete one with random weights that fits into a test."""
        return cls.from_pipeline(tiny_flux2_klein.flux2_klein_pipeline(seed), f"tiny:{seed}")

    # ---- the transformer

    def velocity(
        self, transformer: nn.Module, z_BND: Tensor, t_B: Tensor, cond: Conditioning, prefix: Prefix | None = None
    ) -> Tensor:
        """v(z, t | cond), shape BND, in z's dtype; computed in the dtype of the weights."""
        assert prefix is None, "attention is not causal: nothing is independent of t"
        assert z_BND.shape[1] == cond.layout.target_tokens, (z_BND.shape, cond.layout)
        assert not cond.padded, "this transformer knows no mask: every text has all its positions"
        take_projected_text(transformer)
        dtype = self._dtype(transformer)
        references = [] if cond.references_BRD is None else [cond.references_BRD.to(dtype)]
        v_BND = transformer(
            hidden_states=torch.cat([z_BND.to(dtype), *references], dim=1),
            timestep=self.time_argument(t_B, dtype),
            encoder_hidden_states=cond.text_BLC.to(dtype),
            txt_ids=_text_positions(cond.text_BLC.shape[1], z_BND.device),
            img_ids=_picture_positions(cond.layout, z_BND.device),
            return_dict=False,
        )[0]
        return v_BND[:, : z_BND.shape[1]].to(z_BND.dtype)

    def prefix(self, transformer: nn.Module, cond: Conditioning) -> Prefix | None:
        """None: text and references attend to the target."""
        return None

    def sampling_grid(self, steps: int, target: TokenGrid) -> SigmaGrid:
        """Even steps, moved by the scheduler's shift. A dynamic shift follows the pipeline's own fit by size and number
        of steps."""
        tokens = target[0] * target[1]
        return SigmaGrid.of_scheduler(self._scheduler, steps, tokens, compute_empirical_mu(tokens, steps))

    @classmethod
    def scheduler_shift(cls, scheduler: Mapping[str, Any], steps: int, tokens: int) -> float:
        """e^mu of the pipeline's own fit, which falls with the number of steps: 9.9 in 4 and 7.6 in 50 at 1024 px."""
        return scheduler_shift(scheduler, tokens, compute_empirical_mu(tokens, steps))

    @classmethod
    def _told(cls, t_B: Tensor, dtype: torch.dtype) -> Tensor:
        """The stock transformer multiplies its argument by 1,000 again before it embeds it, in the same dtype."""
        return (cls.time_argument(t_B, dtype) * 1000).float() / 1000

    @classmethod
    def _first_weight(cls, transformer: nn.Module) -> Tensor:
        return untyped(transformer).x_embedder.weight

    # ---- encoding and decoding

    def encode(
        self, prompts: Sequence[str], references: Sequence[Image.Image] | None, size: tuple[int, int]
    ) -> list[Conditioning]:
        """One Conditioning (batch of 1) for each prompt, all with the same references. Its texts are projected.

        Raises:
            LayoutError: the size is off the grid, there are more than 4 references, or one is too small or too narrow.
            ModelError: no text encoder was loaded.
        """
        return self.encode_batch([EncodeRequest(tuple(prompts), tuple(references or ()), size)])[0]

    @torch.no_grad()
    def encode_batch(self, requests: Sequence[EncodeRequest]) -> list[list[Conditioning]]:
        """`encode` of several requests. Those whose references get the same grids go through text encoder and VAE
        together."""
        pipeline = self._require_encoder()
        for request in requests:
            self.refuse_references(len(request.references))
            for image in request.references:
                _refuse_unusable(pipeline, image)
        return encode_in_groups(requests, self._grids, partial(self._encode_alike, pipeline))

    def _grids(self, request: EncodeRequest) -> tuple[TokenGrid, ...]:
        """The grid of the target, then those of the references."""
        references = (self.layout_grid(klein_size((image.height, image.width))) for image in request.references)
        return self.layout_grid(request.size), *references

    def _encode_alike(self, pipeline: Any, alike: Sequence[EncodeRequest]) -> list[list[Conditioning]]:
        """Requests of the same grids, in one pass through text encoder and VAE."""
        target, *grids = self._grids(alike[0])
        layout = Layout("edit" if grids else "t2i", target, tuple(grids))
        pictures = zip(*(one.references for one in alike), strict=True)
        prepared = [torch.cat([_prepared(pipeline, image) for image in of_all]) for of_all in pictures]
        latents_BRD = torch.cat([self._latents(pixels) for pixels in prepared], dim=1) if grids else None
        embeds_BLC, _ = pipeline.encode_prompt(
            [prompt for one in alike for prompt in one.prompts], pipeline.text_encoder.device
        )
        mask_1L = embeds_BLC.new_ones((1, embeds_BLC.shape[1]), dtype=torch.bool)
        texts = iter(self._projected(embeds_BLC).split(1))
        latents = [None] * len(alike) if latents_BRD is None else latents_BRD.split(1)
        return [
            [Conditioning(next(texts), mask_1L, layout, of_one) for _ in one.prompts]
            for one, of_one in zip(alike, latents, strict=True)
        ]

    @classmethod
    def size_of_edit(cls, references: Sequence[tuple[int, int]], area: int) -> tuple[int, int]:
        """The size of the first reference, which is at most a megapixel."""
        return klein_size(references[0])

    @classmethod
    def reference_fault(cls, reference: tuple[int, int]) -> str | None:
        return klein_fault(reference)

    @torch.no_grad()
    def encode_images(self, images: Sequence[Image.Image], size: tuple[int, int]) -> Tensor:
        """Packed clean latents (BND) of pictures brought to `size` (height, width)."""
        self.layout_grid(size)
        processor, (height, width) = self._require_pipeline("encode pictures").image_processor, size
        pixels = [processor.preprocess(i.convert("RGB").resize((width, height)), height, width) for i in images]
        return torch.cat([self._latents(each) for each in pixels])

    @torch.no_grad()
    def _decoded(self, x0_BND: Tensor, target: TokenGrid) -> Tensor:
        """The VAE's output (B, 3, H, W) in [-1, 1]."""
        pipeline = self._require_pipeline("decode latents")
        vae = pipeline.vae
        latents = x0_BND.transpose(1, 2).unflatten(2, target).to(vae.device, vae.dtype)
        mean = vae.bn.running_mean.view(1, -1, 1, 1).to(latents)
        std = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps).to(latents)
        return vae.decode(pipeline._unpatchify_latents(latents * std + mean), return_dict=False)[0]

    def _latents(self, pixels: Tensor) -> Tensor:
        """Clean latents (1, N, D) of a picture: the mode of the VAE's posterior, in patches of 2 x 2, normalised and
        packed."""
        pipeline = self._require_pipeline("encode pictures")
        vae = pipeline.vae
        return pipeline._pack_latents(pipeline._encode_vae_image(pixels.to(vae.device, vae.dtype), None))

    def _preprocessor_identity(self, pipeline: Any) -> list[bytes]:
        return [tokenizer_identity(pipeline.tokenizer)]


def _refuse_unusable(pipeline: Any, image: Image.Image) -> None:
    """
    Raises:
        LayoutError: a picture that the pipeline refuses.
    """
    try:
        pipeline.image_processor.check_image_input(image)
    except ValueError as error:
        raise LayoutError(f"a reference cannot be used: {error}. Give a larger or less narrow picture") from error


def _prepared(pipeline: Any, image: Image.Image) -> Tensor:
    """Pixels (1, 3, height, width) of a reference, as the pipeline's call prepares it."""
    processor = pipeline.image_processor
    image, (height, width) = _own_size(pipeline, image)
    return processor.preprocess(image, height=height, width=width, resize_mode="crop")


def _own_size(pipeline: Any, image: Image.Image) -> tuple[Image.Image, tuple[int, int]]:
    """A reference, reduced to at most a megapixel; and the (height, width) in px of what is used of it, in whole
    tokens."""
    image, step = pipeline.image_processor._resize_if_exceeds_area(image, MAX_AREA), pipeline.vae_scale_factor * 2
    return image, (image.height // step * step, image.width // step * step)


def _text_positions(length: int, device: torch.device) -> Tensor:
    """Positions (L, 4) of text: time, row and column are 0, the last is the place in the text."""
    ids_L4 = torch.zeros(length, 4, dtype=torch.long, device=device)
    ids_L4[:, 3] = torch.arange(length, device=device)
    return ids_L4


def _picture_positions(layout: Layout, device: torch.device) -> Tensor:
    """Positions (N + R, 4) of the target, then of each reference: time (0, 10, 20, ..), row, column, 0."""
    axes = [
        [torch.tensor([REFERENCE_STEP * number]), torch.arange(rows), torch.arange(columns), torch.arange(1)]
        for number, (rows, columns) in enumerate((layout.target, *layout.references))
    ]
    return to_device(torch.cat([torch.cartesian_prod(*each) for each in axes]), device)
