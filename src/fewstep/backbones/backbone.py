"""The interface of a model family. A family computes velocities; it does not know what they are used for.

Shapes: B batch, N latent tokens of the target, D latent channels. Latents are packed as tokens (BND) everywhere, in the
normalised space of the transformer. The transformer is an argument of `velocity`. So several networks of one family
(the base, full copies) and several adapters over one base use the same code.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from fewstep.backbones.conditioning import (
    Conditioning,
)
from fewstep.backbones.encode_request import EncodeRequest
from fewstep.backbones.layout import Layout, TokenGrid
from fewstep.backbones.meta_copy import meta_copy
from fewstep.flow.guidance import Guidance
from fewstep.flow.sigmas import SigmaGrid
from fewstep.runtime.errors import LayoutError
from fewstep.runtime.task import Task


@dataclass(frozen=True)
class Prefix:
    """Keys and values of all tokens that do not depend on t (text and references), one pair for each block.

    It is valid at every t, for the weights and the conditioning from which it was computed. After an update of the
    weights it must be computed again.
    """

    cache: Any


class Backbone(ABC):
    """One loaded model: a transformer, and what is needed to encode its inputs and decode its latents.

    Any of these parts may be absent, the transformer too. What needs a part that was not loaded raises ModelError.
    """

    family: ClassVar[str]
    lora_targets: tuple[str, ...]  # ends of the names of the blocks' layers that adapters change: attention and MLP
    attention_targets: tuple[str, ...] = ()  # those of attention alone
    batches_edits: ClassVar[bool] = False  # whether `encode_batch` takes fewer passes than requests, for edits too
    encoded_layers: ClassVar[tuple[str, ...]] = ()  # whose answer is encoded and stored: they cannot learn
    default_guidance: Guidance  # what the makers sample the teacher with
    default_steps: int
    max_references: int
    pixels_per_token: ClassVar[int]  # side of the square tile that one latent token stands for
    size_multiple: ClassVar[int]  # heights and widths are multiples of this, in pixels
    noise_patch: ClassVar[int] = 1  # side of the patch of latents in a token, where noise is drawn before it is packed

    transformer: nn.Module
    source: str  # folder or hub id it was loaded from
    latent_channels: int

    @abstractmethod
    def velocity(
        self, transformer: nn.Module, z_BND: Tensor, t_B: Tensor, cond: Conditioning, prefix: Prefix | None = None
    ) -> Tensor:
        """v(z, t | cond), shape BND, in the dtype of z_BND. With `prefix`, only the target's tokens are computed."""

    @abstractmethod
    def prefix(self, transformer: nn.Module, cond: Conditioning) -> Prefix | None:
        """The prefix of `cond` under `transformer`; None if the family has none.

        With gradients enabled, the gradient of a later `velocity` flows through it into the weights that made it.
        Computed under no_grad it is a constant: that part of the gradient is then missing.
        """

    @abstractmethod
    def encode(
        self, prompts: Sequence[str], references: Sequence[Image.Image] | None, size: tuple[int, int]
    ) -> list[Conditioning]:
        """One Conditioning (batch of 1) for each prompt, all with the same references. The pipeline's own code does the
        work. size: height and width of the target in px."""

    def encode_batch(self, requests: Sequence[EncodeRequest]) -> list[list[Conditioning]]:
        """`encode` of several requests, which have one size and one number of references.

        This calls `encode` once a request. A family with `batches_edits` runs requests of equal layouts together, in
        which sums are rounded otherwise.
        """
        return [self.encode(request.prompts, request.references, request.size) for request in requests]

    @abstractmethod
    def encode_images(self, images: Sequence[Image.Image], size: tuple[int, int]) -> Tensor:
        """Packed clean latents (BND) of pictures resized as the pipeline resizes references to `size`."""

    @abstractmethod
    def decode(self, x0_BND: Tensor, target: TokenGrid) -> list[Image.Image]:
        """Pictures of packed clean latents."""

    def pixels(self, x0_BND: Tensor, target: TokenGrid) -> Tensor:
        """The same pictures as floats: (B, H, W, channels), float32 in [0, 1].

        Here they have the 8 bits of `decode`. A family that decodes to floats returns them without rounding.
        """
        return torch.from_numpy(np.stack([np.array(picture) for picture in self.decode(x0_BND, target)])) / 255

    @contextmanager
    def vae_on_device(self) -> Iterator[None]:
        """Inside, the parts that `decode` needs are on the transformer's device. Afterwards they are where they were
        before."""
        yield

    @abstractmethod
    def release_encoder(self) -> None:
        """Drops the parts that only `encode` needs, and moves those that only `decode` needs to the CPU. Training needs
        neither on its device. `encode` raises ModelError from then on."""

    @abstractmethod
    def sampling_grid(self, steps: int, target: TokenGrid) -> SigmaGrid:
        """The grid on which the model's own pipeline samples with `steps` steps at this size."""

    @abstractmethod
    def sampling_shift(self, steps: int, target: TokenGrid) -> float:
        """The shift a that the model's own pipeline gives its noise levels in `steps` steps at this size:
        s' = a s / (1 + (a - 1) s). 1 is none. A scheduler's `shift_terminal` is no part of it."""

    def told_times(self, t_B: Tensor) -> Tensor:
        """The times that the transformer is really told when `velocity` is called at t_B, float32.

        They differ from t_B where the stock pipeline rounds times to its weights' dtype: bfloat16 keeps 8 bits. What is
        drawn for training is rounded first and noised then, so that a network is told the level of the noise that it
        sees. Rounded times are told as they are: told_times(told_times(t)) is told_times(t).
        """
        return t_B

    @abstractmethod
    def fingerprint(self) -> str:
        """A short hash of what determines conditionings (text encoder, processor, VAE, template). Stores are keyed by
        it."""

    def layout_grid(self, size: tuple[int, int]) -> TokenGrid:
        """Rows and columns of latent tokens for a size in pixels (height, width).

        Raises:
            LayoutError: a side is not a positive multiple of `size_multiple`.
        """
        for side in size:
            if side <= 0 or side % self.size_multiple:
                raise LayoutError(
                    f"{self.family} takes sides that are multiples of {self.size_multiple} px, not {side}"
                )
        return size[0] // self.pixels_per_token, size[1] // self.pixels_per_token

    @classmethod
    def size_of_edit(cls, references: Sequence[tuple[int, int]], area: int) -> tuple[int, int]:
        """(height, width) in px of an edit of references of these sizes when no size is given, as the stock pipeline
        chooses it. Training, sampling and galleries all ask here.

        The grid must be that of the reference that the edit follows. With another grid the edit would be shifted
        against it. By default it is the shape of the last reference at this area.

        Args:
            references: height and width of each in px.
            area: that of the model's default size, in px. Not every family uses it.
        """
        (height, width), step = references[-1], cls.size_multiple
        side = math.sqrt(area * width / height)
        return max(step, round(area / side / step) * step), max(step, round(side / step) * step)

    @classmethod
    def reference_fault(cls, reference: tuple[int, int]) -> str | None:
        """What a message says of a reference of this height and width that the model refuses; None if it takes it."""
        return None

    def edit_size(self, references: Sequence[Image.Image], area: int) -> tuple[int, int]:
        """`size_of_edit`, of pictures."""
        return self.size_of_edit([(image.height, image.width) for image in references], area)

    def refuse_references(self, count: int) -> None:
        """Refuses more references than the model accepts.

        Raises:
            LayoutError: `count` is too many.
        """
        if count > self.max_references:
            raise LayoutError(f"{self.family} takes at most {self.max_references} references, not {count}")

    def meta_copy(self) -> Self:
        """The same model with its parameters on the meta device (`meta_copy`), and without encoder and decoder."""
        twin = copy.copy(self)
        twin.replace_transformer(meta_copy(self.transformer))
        return twin

    def replace_transformer(self, transformer: nn.Module) -> None:
        """Uses this transformer from now on. The one before is not kept."""
        self.transformer = transformer

    def modules(self) -> dict[str, nn.Module]:
        """The parts with weights that are loaded, by name."""
        return {"transformer": self.transformer}

    def guidance_of(self, task: Task) -> Guidance:
        """What the makers sample the teacher with at a task."""
        return self.default_guidance

    def noise_dtypes(self, task: Task, text: torch.dtype) -> tuple[torch.dtype, torch.dtype]:
        """The dtype in which the stock pipeline draws a seed's noise, and the one that its states have afterwards.

        text: that of the embeddings.
        """
        return text, text

    def noise_shape(self, layout: Layout) -> tuple[int, int]:
        """(N, D) of one sample's target latents."""
        return layout.target_tokens, self.latent_channels

    @property
    def device(self) -> torch.device:
        return next(self.transformer.parameters()).device
