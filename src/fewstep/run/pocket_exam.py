"""`fewstep.examine_student`: a student of an embedded teacher beside that teacher, on the same held-out questions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fewstep.backbones.embedded import POCKET
from fewstep.backbones.folder import folder_of
from fewstep.flow.guidance import NO_GUIDANCE, Guidance
from fewstep.pocket import exam
from fewstep.pocket.exam import ExamSpec
from fewstep.pocket.exam_gallery import ExaminedSystem
from fewstep.pocket.harder.exam import HarderExamSpec
from fewstep.pocket.harder.systems import SHOWN, compare_harder
from fewstep.pocket.lora_world import refuse_lora_of_other_world
from fewstep.pocket.probe import Probe
from fewstep.pocket.systems import ConditioningCache, adapter_over, system_of
from fewstep.pocket.vocabulary import vocabulary
from fewstep.pocket.world_of_model import world_of_model
from fewstep.pocket.world_words import refuse_other_world
from fewstep.run.examination import ExaminationResult
from fewstep.run.recipe import load_recipe
from fewstep.runtime.errors import ModelError
from fewstep.runtime.reporter import SILENT, Reporter
from fewstep.runtime.task import TASKS, Task
from fewstep.sample.pictures import Model, open_model
from fewstep.sample.student_options import refuse_student_options, student_levels

TEACHER, TEACHER_FEW, STUDENT = "teacher", "teacher-4", "student"
COLUMNS = {TEACHER: "Teacher, 40 steps", TEACHER_FEW: "Teacher, 4 steps", STUDENT: "Student, 4 steps"}
STEPS = 4


def examine_student(
    student: str | Path,
    to: str | Path,
    *,
    cases: int = 100,
    diversity: int = 8,
    seeds: int = 8,
    seed: int = 1,
    reporter: Reporter = SILENT,
) -> ExaminationResult:
    """A student of an embedded teacher beside that teacher at 40 steps with guidance, and at 4 steps without: the same
    held-out cases from the same noise. The student's words say of which world it is. For other models, draw galleries
    and measure those (`fewstep.generate_gallery`).

    Args:
        student: its folder.
        to: where pictures, records and figures.json go; what is there is not drawn again.
        cases: held-out prompts of each category, and edits of each kind: three and six in the pocket world, four and
            eight in the harder one.
        diversity: prompts of each category that are drawn with `seeds` seeds.
        seed: which held-out cases. Choose a recipe on some, report on others.

    Returns:
        Means with 95 % intervals, and the student against the teacher pair by pair: `found["figures"]`, or one of them
        by `line("t2i.attributes")`. Shares are in [0, 1], PSNR in dB.

    Raises:
        ModelError: no student, or one of another teacher. RunError: `to` holds pictures of another model.
    """
    harder = world_of_model(Path(student)) == "harder"
    if harder:
        compare_harder(Path(student), HarderExamSpec(cases, diversity, seeds, seed), Path(to), reporter=reporter)
    else:
        compare_with_teacher(Path(student), ExamSpec(cases, diversity, seeds, seed), Path(to), reporter)
    result = ExaminationResult.of(Path(to), SHOWN if harder else COLUMNS)
    assert result is not None, "the examination has just been written"
    return result


def compare_with_teacher(student_folder: Path, spec: ExamSpec, to: Path, reporter: Reporter = SILENT) -> dict[str, Any]:
    """Teacher at its full sampler, teacher at the student's few steps without guidance, and the student: the same
    questions, examined by the probe."""
    refuse_other_world(folder_of(student_folder), vocabulary(), POCKET)
    teacher, own = open_model(POCKET), open_model(student_folder)
    if not own.is_student:
        raise ModelError(f"{student_folder} is no student: its model_index.json has no sample_sigmas")
    if own.backbone.fingerprint() != teacher.backbone.fingerprint():
        raise ModelError(
            f"{student_folder} is no student of the pocket teacher, and the probe knows the pocket world alone. Draw "
            "its gallery of a suite, and measure or judge that"
        )
    encoded = ConditioningCache(teacher.backbone)  # the student carries the same text encoder and VAE
    systems = {
        TEACHER: system_of(teacher, guidance=teacher_guidance(), encoded=encoded),
        TEACHER_FEW: system_of(teacher, steps=STEPS, guidance=dict.fromkeys(TASKS, NO_GUIDANCE), encoded=encoded),
        STUDENT: system_of(own, encoded=encoded),
    }
    return _examined(systems, spec, to, reporter)


def examine_model(
    source: str,
    *,
    spec: ExamSpec,
    steps: int | None,
    guidance: float | None,
    to: Path,
    adapter: str | None = None,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """One model on held-out pocket cases, and beside it the same with `adapter` on (at the model's own guidance):
    pictures, records and figures in `to`.

    Raises:
        ModelError: no model of this world. RecipeError: steps or guidance of a student.
    """
    if source != POCKET:
        refuse_other_world(folder_of(source), vocabulary(), POCKET)
        if (own := student_levels(source)) is not None:
            refuse_student_options(own, steps, guidance)
    if adapter is not None:
        refuse_lora_of_other_world(adapter, POCKET)
    model = open_model(source)
    encoded, chosen = ConditioningCache(model.backbone), _chosen_guidance(model, source, guidance)
    systems = {"model": system_of(model, steps, chosen, encoded)}
    if adapter is not None:
        systems["with adapter"] = system_of(model, steps, chosen, encoded, adapter_over(model, adapter))
    return _examined(systems, spec, to, reporter)


def teacher_guidance() -> Mapping[Task, Guidance]:
    """What the pocket teacher is sampled with, as the shipped recipe distils it."""
    given = load_recipe(POCKET).teachers.base.guidance or {}
    return {task: given[task].guidance() if task in given else NO_GUIDANCE for task in TASKS}


def _chosen_guidance(model: Model, source: str, scale: float | None) -> Mapping[Task, Guidance]:
    if scale is not None:
        return dict.fromkeys(TASKS, Guidance(scale))
    if source == POCKET:
        return teacher_guidance()
    return dict.fromkeys(TASKS, model.guidance)


def _examined(systems: Mapping[str, ExaminedSystem], spec: ExamSpec, to: Path, reporter: Reporter) -> dict[str, Any]:
    with reporter.progress("examining", len(spec.questions()) * len(systems)) as advance, torch.no_grad():
        return exam.examine(systems, spec, Probe.load(), to, advance)
