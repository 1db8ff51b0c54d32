"""LongCat-Image, 6 B: text to image (LongCatImagePipeline) and edits with one reference (LongCatImageEditPipeline).

Both models have one kind of transformer. An edit model does text to image as well: the sequence of a text-to-image
sample is that of an edit without its reference, and its prompt is encoded with the text-to-image template. Every prompt
fills 512 positions, and the transformer attends to all of them, padding included. In edits the text encoder sees the
reference at half its sides; these positions are stored with the text. The reference has the target's size.

Text in quotation marks is encoded by character. To find it, the pipelines put placeholders in the place of words with
an apostrophe inside, and corrupt a prompt with two different ones (`_spelled`).

All conventions are those of the two pipelines in diffusers 0.42, and contract tests compare the results with their own
calls.
"""

import re
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
from fewstep.backbones.edit_sizes import longcat_size
from fewstep.backbones.identity import config_identity, tokenizer_identity
from fewstep.backbones.layout import Layout, TokenGrid
from fewstep.backbones.licences import APACHE, Licence
from fewstep.backbones.packing import packed, unpacked
from fewstep.backbones.pipeline_backbone import PipelineBackbone, untyped
from fewstep.backbones.stock import (
    LongCatImageEditPipeline,
    LongCatImagePipeline,
    LongCatImageTransformer2DModel,
    pipeline_longcat_image,
)
from fewstep.backbones.testing import tiny_longcat_image
from fewstep.flow.guidance import Guidance
from fewstep.flow.sigmas import SigmaGrid
from fewstep.runtime.device import to_device
from fewstep.runtime.errors import LayoutError
from fewstep.runtime.task import Task

DRAWS, EDITS = "LongCatImagePipeline", "LongCatImageEditPipeline"
PATCH = 2  # side of the patch of latents in a token
TARGET, REFERENCE = 1, 2  # of a position's first axis, which is 0 for text
CONTRACTION = re.compile(r"[a-zA-Z]+'[a-zA-Z]+")


class LongCatImage(PipelineBackbone):
    """The family LongCat-Image."""

    family: ClassVar[str] = "longcat-image"
    pipelines: ClassVar[Mapping[str, Any]] = {DRAWS: LongCatImagePipeline, EDITS: LongCatImageEditPipeline}
    transformer_class: ClassVar[Any] = LongCatImageTransformer2DModel
    encoding_version: ClassVar[int] = 1
    single_file_reader: ClassVar[bool] = False
    default_licence: ClassVar[Licence | str] = APACHE
    attention_targets = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
    lora_targets = (  # proj_out: of single blocks, and the transformer's last layer, which has the same name
        *attention_targets,
        *("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2", "proj_mlp", "proj_out"),
    )
    default_guidance = Guidance(4.5, keep_norm="at-most")
    default_steps = 50
    max_references = 1
    pixels_per_token: ClassVar[int] = 16
    size_multiple: ClassVar[int] = 16
    noise_patch: ClassVar[int] = PATCH

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
    def student_call(cls, steps: int, size: tuple[int, int], task: Task = "t2i") -> dict[str, Any]:
        """Both classes guide by default, and that of text to image has its text encoder rewrite the prompt."""
        call = super().student_call(steps, size, task) | {"guidance_scale": 1.0}
        return call | ({"enable_prompt_rewrite": False} if task == "t2i" else {})

    @classmethod
    def size_of_edit(cls, references: Sequence[tuple[int, int]], area: int) -> tuple[int, int]:
        return longcat_size(references[0])

    @classmethod
    def fixed_edit_size(cls, picture: tuple[int, int]) -> tuple[int, int]:
        return longcat_size(picture)

    @classmethod
    def distilled(cls, folder: Path) -> str | None:
        if "turbo" not in folder.name.lower():
            return None
        return (
            "is called a LongCat-Image Turbo: its makers distilled it already. Take meituan-longcat/LongCat-Image or "
            "LongCat-Image-Edit, which it was made of"
        )

    @classmethod
    def respelled(cls, prompt: str) -> str:
        return _spelled(prompt)

    @classmethod
    def tiny(cls, seed: int = 0) -> "LongCatImage":
        """A complete one with random weights that fits into a test; it edits."""
        return cls.from_pipeline(tiny_longcat_image.longcat_image_edit_pipeline(seed), f"tiny:{seed}")

    def guidance_of(self, task: Task) -> Guidance:
        """An edit's tokens keep the length that guidance gives them."""
        return self.default_guidance if task == "t2i" else Guidance(self.default_guidance.scale)

    # ---- the transformer

    def velocity(
        self, transformer: nn.Module, z_BND: Tensor, t_B: Tensor, cond: Conditioning, prefix: Prefix | None = None
    ) -> Tensor:
        """v(z, t | cond), shape BND, in z's dtype; computed in the dtype of the weights."""
        assert prefix is None, "attention is not causal: nothing is independent of t"
        assert z_BND.shape[1] == cond.layout.target_tokens, (z_BND.shape, cond.layout)
        assert not cond.padded, "this transformer knows no mask: every text has all its positions"
        dtype = self._dtype(transformer)
        references = [] if cond.references_BRD is None else [cond.references_BRD.to(dtype)]
        length = cond.text_BLC.shape[1]
        v_BND = transformer(
            hidden_states=torch.cat([z_BND.to(dtype), *references], dim=1),
            timestep=self.time_argument(t_B, dtype),
            encoder_hidden_states=cond.text_BLC.to(dtype),
            txt_ids=to_device(_positions(0, (0, 0), num_token=length), z_BND.device),
            img_ids=to_device(_picture_positions(cond.layout, length), z_BND.device),
            return_dict=False,
        )[0]
        return v_BND[:, : z_BND.shape[1]].to(z_BND.dtype)

    def prefix(self, transformer: nn.Module, cond: Conditioning) -> Prefix | None:
        """None: text and reference attend to the target."""
        return None

    def sampling_grid(self, steps: int, target: TokenGrid) -> SigmaGrid:
        """Even steps, moved by the scheduler's shift."""
        return SigmaGrid.of_scheduler(self._scheduler, steps, target[0] * target[1])

    @classmethod
    def _told(cls, t_B: Tensor, dtype: torch.dtype) -> Tensor:
        """The stock transformer multiplies its argument by 1,000 again before it embeds it, in the same dtype."""
        return (cls.time_argument(t_B, dtype) * 1000).float() / 1000

    @classmethod
    def _first_weight(cls, transformer: nn.Module) -> Tensor:
        return untyped(transformer).x_embedder.weight

    def noise_dtypes(self, task: Task, text: torch.dtype) -> tuple[torch.dtype, torch.dtype]:
        """For text to image noise is drawn in float32 and rounded; for an edit it is drawn in the embeddings' dtype."""
        return (torch.float32 if task == "t2i" else text), text

    # ---- encoding and decoding

    @torch.no_grad()
    def encode(
        self, prompts: Sequence[str], references: Sequence[Image.Image] | None, size: tuple[int, int]
    ) -> list[Conditioning]:
        """One Conditioning (batch of 1) for each prompt, all with the same reference.

        Raises:
            LayoutError: the size is off the grid, there is more than one reference, or any for a model that draws from
                text only, or a prompt has more tokens than the model reads.
            ModelError: no text encoder was loaded.
        """
        pipeline, images, target = self._require_encoder(), list(references or ()), self.layout_grid(size)
        self.refuse_references(len(images))
        spelled = [self.respelled(prompt) for prompt in prompts]
        for prompt in spelled:
            _refuse_long(pipeline, prompt)
        if not images:
            texts, _ = _drawing(pipeline).encode_prompt(spelled)
            return [_whole(text_LC[None], Layout("t2i", target)) for text_LC in texts]
        layout, seen = Layout("edit", target, (target,)), _resized(pipeline, images[0], size)
        latents = self._latents(pipeline, seen, size)
        seen = _resized(pipeline, seen, (size[0] // 2, size[1] // 2))
        return [_whole(pipeline.encode_prompt([prompt], seen)[0], layout, latents) for prompt in spelled]

    @torch.no_grad()
    def encode_images(self, images: Sequence[Image.Image], size: tuple[int, int]) -> Tensor:
        """Packed clean latents (BND) of pictures brought to `size` (height, width)."""
        self.layout_grid(size)
        pipeline = self._require_pipeline("encode pictures")
        return torch.cat([self._latents(pipeline, _resized(pipeline, image, size), size) for image in images])

    @torch.no_grad()
    def _decoded(self, x0_BND: Tensor, target: TokenGrid) -> Tensor:
        """The VAE's output (B, 3, H, W) in [-1, 1]."""
        vae = self._require_pipeline("decode latents").vae
        latents = unpacked(x0_BND.to(vae.device), target, PATCH)  # in the pipeline's own order of rounding
        latents = (latents / vae.config.scaling_factor) + vae.config.shift_factor
        return vae.decode(latents.to(vae.dtype), return_dict=False)[0]

    def _latents(self, pipeline: Any, image: Image.Image, size: tuple[int, int]) -> Tensor:
        """Clean latents (1, N, D) of a picture: the mode of the VAE's posterior, normalised and packed."""
        vae = pipeline.vae
        pixels = pipeline.image_processor.preprocess(image, *size).to(vae.device, vae.dtype)
        latents = vae.encode(pixels).latent_dist.mode()
        return packed((latents - vae.config.shift_factor) * vae.config.scaling_factor, PATCH)

    def refuse_references(self, count: int) -> None:
        if count and not self.max_references:
            raise LayoutError(
                f"{self.source} is a {DRAWS}: it draws from text and takes no references. For edits give a model of "
                f"{EDITS} (LongCat-Image-Edit); it draws from text as well"
            )
        super().refuse_references(count)

    def _preprocessor_identity(self, pipeline: Any) -> list[bytes]:
        pictures = pipeline.text_processor.image_processor.to_dict()
        return [tokenizer_identity(pipeline.tokenizer), config_identity(pictures)]


def _spelled(prompt: str) -> str:
    """The prompt with typographic apostrophes, if it has two different words with a plain one inside.

    The pipelines' `split_quotation` (diffusers 0.42.1) replaces each such word by a placeholder, and the second one's
    contains the first one's twice. So "it's .. doesn't" is read as "it'sit's .. it's" or the other way round, as the
    order of a set of strings has it, which differs from process to process.
    """
    words = CONTRACTION.findall(prompt)
    if len(set(words)) < 2:
        return prompt
    return CONTRACTION.sub(lambda word: word[0].replace("'", "\u2019"), prompt)


def _refuse_long(pipeline: Any, prompt: str) -> None:
    """The pipelines cut such a prompt, or end with a TypeError (edits).

    Raises:
        LayoutError: a prompt of more tokens than the model reads.
    """
    pieces = [
        piece
        for part, quoted in pipeline_longcat_image.split_quotation(prompt)
        for piece in (part if quoted else [part])
    ]
    count = sum(len(pipeline.tokenizer(piece, add_special_tokens=False)["input_ids"]) for piece in pieces)
    if count > pipeline.tokenizer_max_length:
        raise LayoutError(
            f"a prompt of {count:,} tokens, and longcat-image reads {pipeline.tokenizer_max_length}; shorten it: "
            f"{prompt[:60]}"
        )


def _resized(pipeline: Any, image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return pipeline.image_processor.resize(image.convert("RGB"), *size)


def _drawing(pipeline: Any) -> Any:
    """The text-to-image pipeline over the same parts. Its prompt template differs from that of the edit pipeline."""
    if isinstance(pipeline, LongCatImagePipeline):
        return pipeline
    return LongCatImagePipeline(**pipeline.components)


def _whole(text_1LC: Tensor, layout: Layout, latents: Tensor | None = None) -> Conditioning:
    """A conditioning in which no text position is padded."""
    return Conditioning(text_1LC, text_1LC.new_ones(text_1LC.shape[:2], dtype=torch.bool), layout, latents)


def _positions(kind: int, start: tuple[int, int], **extent: int) -> Tensor:
    """Positions (L, 3): the kind, then two axes from `start` on."""
    what = "text" if kind == 0 else "image"
    return pipeline_longcat_image.prepare_pos_ids(modality_id=kind, type=what, start=start, **extent)


def _picture_positions(layout: Layout, text: int) -> Tensor:
    """Positions (N + R, 3) of the target and of the reference. Both begin behind the text on both axes."""
    grids = [(TARGET, layout.target), *((REFERENCE, grid) for grid in layout.references)]
    return torch.cat([_positions(kind, (text, text), height=grid[0], width=grid[1]) for kind, grid in grids])
