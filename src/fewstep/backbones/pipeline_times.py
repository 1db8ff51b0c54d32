"""Noise levels and times as a stock pipeline makes them: which shift, which grid, and what its transformer is told."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.flow.sigmas import SigmaGrid, scheduler_shift


class PipelineTimes:
    """What a family of stock pipelines knows of levels and times without a loaded model. Most share these rules."""

    @classmethod
    def scheduler_shift(cls, scheduler: Mapping[str, Any], steps: int, tokens: int) -> float:
        """`sampling_shift` by the scheduler's config, for `tokens` latent tokens of the target. Families whose pipeline
        has a rule of its own for the dynamic shift override this.

        Raises:
            RecipeError: a scheduler with settings that are not supported here.
        """
        return scheduler_shift(scheduler, tokens)

    @classmethod
    def student_levels(
        cls, index: Mapping[str, Any], scheduler: Mapping[str, Any], steps: int, tokens: int
    ) -> SigmaGrid:
        """The grid of a student of `steps` steps at the model's own shift: even steps, shifted once.

        A scheduler's `shift_terminal` (0.02 of the Qwen-Image teachers) is left out. It stretches a grid until its last
        step stands there. That moves 40 steps by at most 0.03, but it would let the last of 4 steps change nothing.

        index: the model_index.json.
        """
        return SigmaGrid.static(steps, cls.scheduler_shift(scheduler, steps, tokens))

    @classmethod
    def time_argument(cls, t_B: Tensor, dtype: torch.dtype) -> Tensor:
        """The argument `timestep` of the transformer, as the stock pipeline makes it of t: in the dtype of its latents,
        once at a scale of 1,000 and once at 1."""
        # timestep = t.expand(batch).to(latents.dtype); transformer(timestep=timestep / 1000)    [diffusers 0.42]
        return (t_B * 1000).to(dtype) / 1000

    @classmethod
    def _told(cls, t_B: Tensor, dtype: torch.dtype) -> Tensor:
        """What the time embedding sees of t, on the scale of t, float32."""
        return cls.time_argument(t_B, dtype).float()

    @classmethod
    def _dtype(cls, transformer: nn.Module) -> torch.dtype:
        """The dtype that the transformer computes in: autocast's, or else that of its weights. fp32 masters under
        autocast are asked as a base in bf16 is."""
        weight = cls._first_weight(transformer)
        kind = weight.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype

    @classmethod
    def _first_weight(cls, transformer: nn.Module) -> Tensor:
        """A weight in the dtype that the model was loaded in. Families name the layer that takes their latents."""
        return next(weight for weight in transformer.parameters() if weight.is_floating_point())
