"""Checks and warnings before the first long step of a run."""

import torch

from fewstep.backbones.base_weights import refuse_products
from fewstep.backbones.embedded import is_embedded
from fewstep.backbones.families import model_summary, refuse_unusable_model
from fewstep.data.batch_slice import refuse_few_samples
from fewstep.data.mixture import used_tasks
from fewstep.export.folder import refuse_grid
from fewstep.pocket.lora_world import WORLD_OF_TEACHER, refuse_lora_of_other_world
from fewstep.roles.compilation import refuse_without_compiler
from fewstep.roles.plan import StudentPlan, TeachersSpec
from fewstep.roles.teacher_plan import teacher_plan
from fewstep.roles.validation import validate_init_from, validate_targets, validate_teachers
from fewstep.run.best_by import refuse_best_without_examiner
from fewstep.run.door import user_loras
from fewstep.run.recipe import Recipe
from fewstep.run.self_exam.cost import exam_schedule
from fewstep.run.self_exam.judge_cost import judge_forecast
from fewstep.run.self_exam.scorer_folders import refuse_scorers
from fewstep.run.start_teacher import unlearnt_starts
from fewstep.run.world_parts import refuse_parts_of_another_world
from fewstep.runtime.cpu_bfloat16 import bf16_against_fp32, fast_bfloat16
from fewstep.runtime.device import refuse_software_bfloat16, resolve_device
from fewstep.runtime.reporter import Reporter
from fewstep.train.plan import RunPlan


def device_of(run: RunPlan, model: str) -> torch.device:
    """The device that the recipe asks for. The embedded models are small enough for bf16 in software, so for them that
    is not refused: their recipes are the same on every laptop.

    Raises:
        EnvironmentRefused: the device, or the precision or the base's products on it, are not available here.
    """
    device = resolve_device(run.device, run.precision)
    refuse_products(device, run.base_weights)
    if not is_embedded(model):
        refuse_software_bfloat16(device, run.precision)
    return device


def preflight(recipe: Recipe, world: int, reporter: Reporter, own_examiner: bool = False) -> torch.device:
    """The run's device, after all checks have passed.

    Args:
        world: the number of ranks.
        own_examiner: the caller brings an examiner.

    Raises:
        EnvironmentRefused: the device, the precision or the compiler is not available here.
        RecipeError: fewer samples than ranks and parts, no examiner for `run.best_by`, a scorer of another kind, or
            a judge whose declaration cannot be used.
        ModelError: the model's files are not whole, or its weights not those of its classes.
        AdapterError, ModelError: a teacher, or the LoRA that the student starts from, cannot be read or does not fit.
        ExportError: the student could not be exported.
    """
    run, model = recipe.run, recipe.model
    refuse_best_without_examiner(recipe, own_examiner)
    refuse_parts_of_another_world(recipe)
    _refuse_loras_of_another_world(recipe)
    refuse_scorers(recipe.examine)
    device = device_of(run, model)
    _warn_of_slow_bfloat16(device, run, reporter)
    _warn_of_slow_products(device, run, reporter)
    if run.compile:
        refuse_without_compiler(device)
    refuse_few_samples(run.batch, world, run.most_parts)
    refuse_unusable_model(model)
    _look_at_networks(recipe, reporter)
    for line in unlearnt_starts(recipe.student, recipe.teachers, used_tasks(recipe.mixture)):
        reporter.say(line, "warning")
    return device


def _refuse_loras_of_another_world(recipe: Recipe) -> None:
    """The user's own LoRA files, as far as they say where they were trained."""
    if (world := WORLD_OF_TEACHER.get(recipe.model)) is not None:
        for _, _, file in user_loras(recipe):
            refuse_lora_of_other_world(file, world)


def say_examinations(recipe: Recipe, reporter: Reporter) -> None:
    """What the run's own examinations take, and how they were made to fit their share."""
    summary, tasks = model_summary(recipe.model), used_tasks(recipe.mixture)
    schedule = exam_schedule(recipe, tasks, summary.steps, summary.guidance)
    if schedule is None:
        return
    judging = judge_forecast(recipe, schedule, tasks)
    reporter.say(schedule.words)
    if judging is not None:
        reporter.say(judging.words)
    for told in (*schedule.changed, *(() if judging is None else judging.warnings)):
        reporter.say(told, "warning")


def _warn_of_slow_bfloat16(device: torch.device, run: RunPlan, reporter: Reporter) -> None:
    """Warns of a precision that was asked for by name and is the slower one here."""
    if device.type == "cpu" and run.precision == "bf16" and not fast_bfloat16():
        reporter.say(
            f"run.precision is bf16, and this CPU takes {bf16_against_fp32():.2g} times as long for products in it as "
            "in fp32. A run of its own is faster with run.precision: fp32, which auto chooses here",
            "warning",
        )


def _warn_of_slow_products(device: torch.device, run: RunPlan, reporter: Reporter) -> None:
    """Warns of products in 8 bits, which are for time, where they take more of it."""
    if device.type == "cpu" and run.base_weights in ("int8-w8a8", "fp8-w8a8"):
        reporter.say(
            f"run.base_weights is {run.base_weights}, whose products in 8 bits are for GPUs. On a CPU they took 1.2 to "
            "3 times as long as in fp32. Set run.base_weights: precision, or int8 for memory",
            "warning",
        )


def _look_at_networks(recipe: Recipe, reporter: Reporter) -> None:
    student, teachers, model = recipe.student, recipe.teachers, recipe.model
    validate_teachers(teachers, student.steps, model)
    _warn_of_unused_teachers(teachers, student.steps, reporter)
    _warn_of_truncated_lora(student, model, reporter)
    _tell_of_further_layers(recipe, reporter)
    if student.is_settled:  # the teacher's own levels can always be shipped
        refuse_grid(model, student.grid)


def _warn_of_unused_teachers(teachers: TeachersSpec, steps: int, reporter: Reporter) -> None:
    """Warns of a declared teacher without weight. It is no error, because a study's cell may leave it out, but it is
    rarely intended."""
    used = teacher_plan(teachers, steps).used
    for name in [name for name in teachers.named if name not in used]:
        reporter.say(
            f"teachers.named.{name} does not teach: preset {teachers.preset} gives it no weight. "
            "Choose step-wise or another, or take the name out",
            "warning",
        )


def _tell_of_further_layers(recipe: Recipe, reporter: Reporter) -> None:
    """Says if the student's adapter is on more layers than its targets, since it starts from a LoRA that is."""
    further = validate_targets(recipe.student, recipe.critic, recipe.model)
    if further:
        reporter.say(
            f"student.init_from changes {len(further)} layers beyond student.adapter.targets, the first {further[0]}. "
            "The student learns them too; the critic has only its own targets"
        )


def _warn_of_truncated_lora(student: StudentPlan, model: str, reporter: Reporter) -> None:
    """Warns if the student's adapter has a lower rank than the LoRA it starts from. It is no error, but some of the
    LoRA is lost."""
    cut = validate_init_from(student, model)
    if cut is not None:
        reporter.say(
            f"student.init_from is cut down to the student's adapter, of rank {cut.words()}. "
            f"A wider one (student.adapter.rank) keeps more of {student.init_from}",
            "warning",
        )
