"""What one call of `fewstep sample` draws: which models, and which pictures of each. Checked before torch is imported.

A picture is asked for by prompt, references, seed and size. Every model draws the same pictures, from the same noise.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fewstep.data.case_formats import format_of
from fewstep.data.cases import Case
from fewstep.data.formats.format import ArchiveFormat
from fewstep.data.pictures import open_picture
from fewstep.data.sources import cases_of, entries
from fewstep.runtime.errors import CaseError, LayoutError, ModelError
from fewstep.sample.asked import refuse_long_prompts, refuse_seeds, size_of
from fewstep.sample.student_options import refuse_student_options, student_levels

MAX_STEPS = 1000


@dataclass(frozen=True)
class SampledModel:
    """A model of a call. steps: stated beside it (MODEL@STEPS), or None. name: short, and of no other model of the
    call."""

    source: str
    steps: int | None
    name: str


@dataclass(frozen=True)
class AskedPicture:
    """One picture, of every model. number: of its prompt, from 0. size: (height, width), or the model's own."""

    number: int
    prompt: str
    references: tuple[Path, ...]
    seed: int
    size: tuple[int, int] | None


@dataclass(frozen=True)
class SampleCall:
    """Everything that a call draws. steps, guidance: asked of its teachers; if the call has one model, of that one."""

    models: tuple[SampledModel, ...]
    pictures: tuple[AskedPicture, ...]
    steps: int | None = None
    guidance: float | None = None
    device: str = "auto"


def sampled_models(sources: Sequence[str]) -> tuple[SampledModel, ...]:
    """The models that a call names. `pocket@4` is the pocket teacher at 4 steps, unless there is a folder of that name.

    Raises:
        ModelError: a model is named twice, or its steps are none.
    """
    stated = [_stated(source) for source in sources]
    if twice := next((source for i, source in enumerate(sources) if stated[i] in stated[:i]), None):
        raise ModelError(f"{twice} is named twice, and would draw the same pictures; name each model once")
    names = _names(stated)
    return tuple(SampledModel(source, steps, name) for (source, steps), name in zip(stated, names, strict=True))


def refuse_steps_of_students(call: SampleCall) -> None:
    """
    Raises:
        ModelError: MODEL@STEPS of a student, which draws at its own noise levels; or a folder that cannot be read.
    """
    for model in call.models:
        if model.steps is not None:
            _refuse_stated_steps(model.source, model.steps)


def refuse_options_of_students(call: SampleCall) -> None:
    """Beside teachers a student is excused from what is asked of those. Alone, or among students, it is meant.

    Raises:
        RecipeError: steps or guidance that no model of the call would take. ModelError: a folder that cannot be read.
    """
    levels = [student_levels(model.source) for model in call.models]
    if any(own is None for own in levels):
        return
    for own in levels:
        refuse_student_options(own or (), call.steps, call.guidance)


def _refuse_stated_steps(source: str, steps: int) -> None:
    if (own := student_levels(source)) is not None:
        raise ModelError(
            f"{source}@{steps}: @STEPS is for teachers. This is a student, which draws in {len(own)} steps at its own "
            f"noise levels ({', '.join(f'{sigma:g}' for sigma in own)}); name it without @{steps}"
        )


def _stated(source: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(.+)@(\d{1,9})", source, re.DOTALL)
    if match is None or Path(source).exists():
        return source, None
    steps = int(match[2])
    if not 1 <= steps <= MAX_STEPS:
        _refuse_stated_steps(match[1], steps)
        raise ModelError(f"{source}: a model is sampled in 1 to {MAX_STEPS:,} steps, as in {match[1]}@4")
    return match[1], steps


def _names(stated: Sequence[tuple[str, int | None]]) -> list[str]:
    """The last parts of each path, as many as tell them apart."""
    paths = [Path(source).parts if Path(source).name else Path(source).absolute().parts for source, _ in stated]
    tails = ["" if steps is None else f"-{steps}-steps" for _, steps in stated]
    for count in range(1, max(map(len, paths), default=0) + 1):
        names = ["-".join(part for part in parts[-count:] if part != "/") + tails[i] for i, parts in enumerate(paths)]
        if len(set(names)) == len(names):
            return names
    return [f"model-{i + 1}" for i in range(len(stated))]


def asked_pictures(
    prompts: Sequence[str],
    file: Path | None,
    images: Sequence[Path],
    *,
    seed: int = 0,
    count: int = 1,
    size: str | None = None,
) -> tuple[AskedPicture, ...]:
    """The pictures of a call: `count` of each prompt, those of the command line first, then the file's.

    Prompt i begins with seed + i * count, so that no two pictures have one seed. A case of the file that states its
    seed begins with that one, and one that states its size has it.

    Raises:
        CaseError: a file or a reference that cannot be read, no prompt at all, or references for cases that have some.
        LayoutError: as `asked` says.
    """
    given = None if size is None else size_of(size)
    cases = _cases(file) if file is not None else []
    if not prompts and not cases:
        raise CaseError("there is nothing to draw: give --prompt, or --prompts with a file of them")
    if not all(prompt.strip() for prompt in prompts):
        raise CaseError("a --prompt is empty: there is nothing to draw of it. Give it words, or leave it out")
    if images and (own := next((case for case in cases if case.references), None)):
        raise CaseError(f"{own.where}: this case names its own pictures; leave --image out, or ask for it alone")
    for image in images:
        open_picture(image, f"reference {image}")
    refuse_long_prompts([*prompts, *(case.prompt for case in cases)])
    made = [(prompt, tuple(images), None, given) for prompt in prompts]
    wanted = [*made, *((c.prompt, c.references or tuple(images), c.seed, _own_size(c) or given) for c in cases)]
    begun = [seed + i * count if own is None else own for i, (_, _, own, _) in enumerate(wanted)]
    refuse_seeds([*begun, *(first + count - 1 for first in begun)])
    return tuple(
        AskedPicture(i, prompt, references, begun[i] + k, own_size)
        for i, (prompt, references, _, own_size) in enumerate(wanted)
        for k in range(count)
    )


def _own_size(case: Case) -> tuple[int, int] | None:
    return None if case.height is None or case.width is None else (case.height, case.width)


def _cases(file: Path) -> list[Case]:
    if file.is_dir() or (file.is_file() and isinstance(format_of(file), ArchiveFormat)):
        raise CaseError(f"{file}: prompts come as lines: .txt with one a line, .jsonl with one case a line, or .csv")
    found = cases_of(entries(file), str(file))
    if not found:
        raise CaseError(f"{file} has no prompt in it; give one a line")
    return found


def refuse_other_sizes(call: SampleCall, default_sizes: Sequence[tuple[int, int]]) -> None:
    """
    Args:
        default_sizes: (height, width) of each model where nobody asks for one.

    Raises:
        LayoutError: models that are to be compared would draw at different sizes, so not from one noise.
    """
    if any(asked.size is None for asked in call.pictures) and len(set(default_sizes)) > 1:
        told = ", ".join(f"{m.name} {h}x{w}" for m, (h, w) in zip(call.models, default_sizes, strict=True))
        raise LayoutError(f"the models draw at different sizes ({told}), so not from one noise; give --size")
