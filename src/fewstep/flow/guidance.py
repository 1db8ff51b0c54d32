"""Classifier-free guidance as a property of a teacher.

Two conventions exist. Ours is v = v_u + s (v_c - v_u), where s = 1 means no guidance. The paper of classifier-free
guidance (arXiv 2207.12598) writes (1 + w) v_c - w v_u, so s = 1 + w. This module holds the numbers alone, without
torch, because recipes hold them. `flow/guided_velocity.py` applies them.
"""

import math
from dataclasses import dataclass
from typing import Literal

from fewstep.runtime.errors import RecipeError

NormRule = bool | Literal["at-most", "picture-at-most"]


@dataclass(frozen=True)
class Guidance:
    """The guidance of one teacher at one task.

    Args:
        scale: s in v = v_u + s (v_c - v_u). 1 means no guidance.
        keep_norm: what is done about the length of the guided velocity. True: each token gets the length that it has in
            the conditional one (QwenImagePipeline). "at-most": only tokens that became longer do (LongCatImagePipeline,
            `enable_cfg_renorm`). "picture-at-most": the same for the picture as a whole (ZImagePipeline,
            `cfg_normalization`).
        negative: the prompt of the unconditional branch. It is encoded like any prompt: zeros in place of an embedding
            give saturated, white pictures.

    Raises:
        RecipeError: a scale that is negative or not finite.
    """

    scale: float = 1.0
    keep_norm: NormRule = False
    negative: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.scale < math.inf:
            raise RecipeError(f"a guidance scale is at least 0 and finite (1 is none), not {self.scale}")

    @property
    def active(self) -> bool:
        """Whether the unconditional branch is evaluated. Guidance costs a second evaluation at each step."""
        return self.scale != 1.0


NO_GUIDANCE = Guidance()
