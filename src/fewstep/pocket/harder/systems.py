"""Who is examined in the harder world: its teacher at full steps and at 4, a student, any pipeline, and the ceiling.

The ceiling is what the autoencoder makes of exact pictures. It is drawn, read and scored as the others are.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.embedded import HARDER, POCKET_GUIDANCE, embedded_folder, is_embedded
from fewstep.flow.guidance import NO_GUIDANCE, Guidance
from fewstep.pocket.exam_gallery import ExaminedSystem, kept_figures
from fewstep.pocket.harder.cases import HarderCase
from fewstep.pocket.harder.exam import HarderExamSpec, examine_harder
from fewstep.pocket.harder.probe import READER, Reader, load_reader, reader_name
from fewstep.pocket.harder.scenes import PIXELS
from fewstep.pocket.harder.sheet import write_sheets
from fewstep.pocket.harder.vocabulary import WORLD, vocabulary
from fewstep.pocket.lora_world import refuse_lora_of_other_world
from fewstep.pocket.systems import ConditioningCache, adapter_over, system_of
from fewstep.pocket.world_words import refuse_other_world
from fewstep.runtime.errors import ModelError, RunError
from fewstep.runtime.reporter import SILENT, Reporter
from fewstep.runtime.task import TASKS
from fewstep.sample.pictures import Model, decode_chunked, open_model
from fewstep.sample.student_options import refuse_student_options, student_levels

TEACHER, TEACHER_FEW, STUDENT, CEILING = "teacher", "teacher-4", "student", "ceiling"
MODEL, ADAPTED = "model", "with adapter"
COLUMNS = {
    TEACHER: "Teacher, 40 steps",
    TEACHER_FEW: "Teacher, 4 steps",
    STUDENT: "Student, 4 steps",
    CEILING: "Exact, through the autoencoder",
}
SHOWN = {name: heading for name, heading in COLUMNS.items() if name != CEILING}
STEPS = 4
Systems = dict[str, ExaminedSystem]


def compare_harder(
    student: Path | None,
    spec: HarderExamSpec,
    to: Path,
    teacher: str | Path | None = None,
    reader: Path = READER,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """The teacher at its full steps with guidance, the teacher at 4 steps without, the student if there is one, and the
    ceiling: the same questions, read by the same reader. Pictures, records, figures and two sheets in `to`.

    Args:
        teacher: a folder or an embedded one's name. None: the one that the student's recipe names; the embedded one
            without a student.

    Raises:
        ModelError: a model or a reader that is missing, or of another world; a student that is none of this teacher.
        RunError: `to` holds pictures of another model.
    """
    known = _known(reader)
    if student is not None:
        refuse_no_harder(student)
    teacher = teacher or teacher_of(student)
    refuse_no_teacher(teacher)
    model = open_model(teacher)
    encoded = ConditioningCache(model.backbone)  # the student carries the same text encoder and VAE
    unguided = dict.fromkeys(TASKS, NO_GUIDANCE)
    systems: Systems = {
        TEACHER: system_of(model, guidance=POCKET_GUIDANCE, encoded=encoded, sizes=PIXELS),
        TEACHER_FEW: system_of(model, steps=STEPS, guidance=unguided, encoded=encoded, sizes=PIXELS),
    }
    if student is not None:
        systems[STUDENT] = system_of(student_of(model, teacher, student), encoded=encoded, sizes=PIXELS)
    return examined(systems, model.backbone, known, spec, to, reporter)


def examine_pipeline(
    source: str | Path,
    spec: HarderExamSpec,
    to: Path,
    reader: Path = READER,
    steps: int | None = None,
    guidance: float | None = None,
    adapter: str | None = None,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """One model, beside it the same with `adapter` on, and the ceiling.

    Args:
        steps, guidance: the model's own if None; a teacher's own guidance is `POCKET_GUIDANCE`.

    Raises:
        ModelError, AdapterError: what is missing, or belongs elsewhere. RunError: `to` holds pictures of another model.
        RecipeError: steps or guidance of a student.
    """
    known = _known(reader)
    refuse_no_harder(source)
    if (levels := student_levels(source)) is not None:
        refuse_student_options(levels, steps, guidance)
    if adapter is not None:
        refuse_lora_of_other_world(adapter, WORLD)
    model = open_model(source)
    own = dict.fromkeys(TASKS, NO_GUIDANCE) if model.is_student else POCKET_GUIDANCE
    chosen = own if guidance is None else dict.fromkeys(TASKS, Guidance(guidance))
    encoded = ConditioningCache(model.backbone)
    systems: Systems = {MODEL: system_of(model, steps, chosen, encoded, sizes=PIXELS)}
    if adapter is not None:
        over = adapter_over(model, adapter)
        systems[ADAPTED] = system_of(model, steps, chosen, encoded, over, PIXELS)
    return examined(systems, model.backbone, known, spec, to, reporter)


def refuse_no_harder(source: str | Path) -> None:
    """
    Raises:
        ModelError: no pipeline folder, or one of another world.
    """
    folder = embedded_folder(str(source)) if is_embedded(source) else Path(source)
    if not (folder / "model_index.json").is_file():
        raise ModelError(
            f"{folder}: no pipeline folder there; give one that `fewstep pocket train --world harder` wrote, or a "
            "student of it"
        )
    refuse_other_world(folder, vocabulary(), WORLD)


def refuse_no_teacher(source: str | Path) -> None:
    """
    Raises:
        ModelError: no pipeline folder, one of another world, or a student, which has no 40 steps to be compared with.
    """
    refuse_no_harder(source)
    if student_levels(source) is not None:
        raise ModelError(f"{source} is a student; give the teacher that it was made from")


def teacher_of(student: Path | None) -> str:
    """The model that a student's recipe names, or the embedded teacher where there is none.

    Raises:
        ModelError: that folder is not here, or the recipe cannot be read.
    """
    file = None if student is None else student / "recipe.yaml"
    if file is None or not file.is_file():
        return HARDER
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ModelError(f"{file} cannot be read ({type(error).__name__}); export the student again") from error
    named = str(content["model"]) if isinstance(content, dict) and content.get("model") else HARDER
    if not is_embedded(named) and not Path(named).is_dir():
        raise ModelError(f"{student}: its teacher {named} is not here; say where it is with --teacher")
    return named


def student_of(teacher: Model, source: str | Path, folder: Path) -> Model:
    """
    Raises:
        ModelError: no student, or one whose text encoder or autoencoder are not the teacher's.
    """
    student = open_model(folder)
    if not student.is_student:
        raise ModelError(f"{folder} is no student: its model_index.json has no sample_sigmas")
    if student.backbone.fingerprint() != teacher.backbone.fingerprint():
        raise ModelError(f"{folder} is no student of {source}: its text encoder or autoencoder differ")
    return student


def ceiling_of(backbone: Backbone) -> ExaminedSystem:
    """Exact answers, drawn by lot where a prompt leaves them open, as this model's autoencoder gives them back."""

    def sampler(cases: Sequence[HarderCase], seeds: Sequence[int]) -> list[Image.Image]:
        exact = [
            case.answer_at_random(random.Random(f"{case.id} {seed}")) for case, seed in zip(cases, seeds, strict=True)
        ]
        return [
            decode_chunked(backbone, backbone.encode_images([picture], case.size), backbone.layout_grid(case.size))[0]
            for picture, case in zip(exact, cases, strict=True)
        ]

    facts = {"exact": "through the autoencoder", "encoders": backbone.fingerprint()}
    return ExaminedSystem(sampler, facts)


def examined(
    systems: Systems,
    backbone: Backbone,
    known: tuple[Reader, dict[str, Any]],
    spec: HarderExamSpec,
    to: Path,
    reporter: Reporter,
) -> dict[str, Any]:
    other = _other_reader(to, known[1]["name"])
    whole = systems | {CEILING: ceiling_of(backbone)}
    with reporter.progress("examining", len(spec.questions()) * len(whole)) as advance, torch.no_grad():
        found = examine_harder(whole, spec, *known, to, advance)
    if other:
        reporter.say(
            f"the figures in {to} were those of another reader; the pictures were read again, and they are replaced",
            "warning",
        )
    write_sheets(to, spec.questions()[: spec.scored_count], {name: COLUMNS.get(name, name) for name in systems})
    return found


def _known(folder: Path) -> tuple[Reader, dict[str, Any]]:
    """A reader, with its own accuracy and its name."""
    reader, accuracy = load_reader(folder)
    return reader, accuracy | {"name": reader_name(folder)}


def _other_reader(to: Path, name: str) -> bool:
    """Whether the folder's figures are those of another reader. Figures that are torn are written anew in any case."""
    with suppress(RunError):
        held = (kept_figures(to) or {}).get("reader", {}).get("name")
        return bool(held is not None and held != name)
    return False
