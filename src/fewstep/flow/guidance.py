"""Classifier-free guidance as a property of a teacher.

Two conventions exist; ours is v = v_u + s (v_c - v_u), in which s = 1 is none. These are the numbers alone, without
torch: recipes hold them. `guided_velocity.py` applies them.
"""

from dataclasses import dataclass

from fewstep.runtime.errors import RecipeError


@dataclass(frozen=True)
class Guidance:
    """scale: 1 is none. keep_norm: rescale each token of the guided velocity to the conditional one's length, as
    QwenImagePipeline does. negative: the prompt of the unconditional branch (never zeros)."""

    scale: float = 1.0
    keep_norm: bool = False
    negative: str = ""

    def __post_init__(self) -> None:
        if not self.scale >= 0:
            raise RecipeError(f"a guidance scale is at least 0 (1 is none), not {self.scale}")

    @property
    def active(self) -> bool:
        """Whether the unconditional branch is evaluated at all: guidance costs a second evaluation per step."""
        return self.scale != 1.0


NO_GUIDANCE = Guidance()
