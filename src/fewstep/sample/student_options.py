"""What a student does not take: other steps than its own, and guidance. Its folder tells, so it need not be opened."""

from collections.abc import Sequence
from pathlib import Path

from fewstep.backbones.embedded import is_embedded
from fewstep.backbones.folder import folder_of, sample_sigmas
from fewstep.runtime.errors import RecipeError


def student_levels(source: str | Path) -> tuple[float, ...] | None:
    """The noise levels of a student's folder; None for a teacher, and for what is no folder here. "pocket" is the
    embedded teacher, also beside a folder of that name.

    Raises:
        ModelError: a folder that cannot be read as a model.
    """
    return sample_sigmas(folder_of(source)) if not is_embedded(source) and Path(source).is_dir() else None


def refuse_student_options(levels: Sequence[float], steps: int | None, guidance: float | None) -> None:
    """
    Args:
        levels: the student's own noise levels.
        steps, guidance: what is asked of it; None where nothing is. A scale of 1 is no guidance.

    Raises:
        RecipeError: another number of steps than its own, or guidance.
    """
    if steps not in (None, len(levels)):
        told = ", ".join(f"{level:g}" for level in levels)
        raise RecipeError(
            f"this student samples in {len(levels)} steps, at {told}; it was not trained at {steps}. Leave --steps out"
        )
    if guidance not in (None, 1.0):
        raise RecipeError(
            f"this student draws without guidance, which its teachers' guidance is distilled into; scale {guidance:g} "
            "would guide it twice. Leave --guidance out"
        )
