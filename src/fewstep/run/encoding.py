"""The stage before training: a recipe's cases, encoded into its store."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.conditioning_estimate import estimate_conditioning
from fewstep.backbones.embedded import model_folder
from fewstep.backbones.families import family_of, load_backbone, model_summary, refuse_unusable_model
from fewstep.backbones.pipeline_backbone import Parts
from fewstep.data.cases import Case
from fewstep.data.composition import Composition
from fewstep.data.mixture import used_tasks
from fewstep.data.teacher_prompts import teacher_prompt_remarks
from fewstep.encode.check_cases import refuse_unfit_cases, refuse_unfit_sizes, respelling_remark
from fewstep.encode.encode import EncodeResult, encode_cases, needs_encoding
from fewstep.encode.estimate import kind_of
from fewstep.encode.layouts import count_layouts
from fewstep.encode.loader import Loader
from fewstep.encode.store import ConditioningStore
from fewstep.run.composition import recipe_composition
from fewstep.run.idle_teachers import refuse_idle_teachers
from fewstep.run.precision import settle_precision
from fewstep.run.preflight import device_of
from fewstep.run.recipe import Recipe
from fewstep.run.self_exam.prepare import PlannedExam, planned_exam
from fewstep.run.teacher_terms import models_of, refuse_distilled, refuse_untaught_tasks, tell_licences
from fewstep.runtime.device import PRECISIONS, free_unused
from fewstep.runtime.parallel import Ranks
from fewstep.runtime.rank_slice import FULL_SLICE, RankSlice
from fewstep.runtime.reporter import SILENT, Reporter
from fewstep.runtime.task import Task


@dataclass(frozen=True)
class EncodedRecipe:
    """A recipe whose cases are all encoded, those of its examination too. No part of the model is in memory."""

    recipe: Recipe
    store: ConditioningStore
    composition: Composition
    negatives: Mapping[Task, tuple[str, ...]]
    exam: PlannedExam | None = None

    @property
    def cases(self) -> list[Case]:
        return [*self.composition.cases(), *(() if self.exam is None else self.exam.plain_cases)]

    def loader(self, rank_slice: RankSlice = FULL_SLICE) -> Loader:
        """The batches of the run, with this rank's samples of each."""
        return Loader(
            self.store,
            self.composition,
            batch=self.recipe.run.batch,
            size=self.recipe.size,
            seed=self.recipe.run.seed,
            negatives=self.negatives,
            rank_slice=rank_slice,
        )


def accepted_cases(
    recipe: Recipe, out: str | Path, reporter: Reporter = SILENT, needed: Parts = "encoder"
) -> Composition:
    """The recipe's cases, all of which its model accepts, as those that it examines itself with.

    Args:
        out: the run folder that the store stands beside (`store`, if the recipe names no other place). Archives are
            unpacked there, and pocket cases drawn.
        needed: of the model's folder, must be whole; more than "encoder" where more will be loaded later.

    Raises:
        CaseError, RecipeError, ModelError: what speaks against the cases, or against a model as a teacher of them.
    """
    refuse_unusable_model(recipe.model, needed)
    teaching = models_of(recipe.model, recipe.teachers, recipe.student.steps)
    refuse_untaught_tasks(teaching, used_tasks(recipe.mixture))
    refuse_distilled(teaching)
    tell_licences(teaching, reporter)
    refuse_unfit_sizes(recipe.model, recipe.size, recipe.data.sizes)
    family = family_of(model_folder(recipe.model))
    remarks: list[str] = []
    with reporter.waiting("reading cases"):
        cache = recipe.store_folder(Path(out)) / "cases"
        composition = recipe_composition(recipe, cache, family, remarks.append)
    refuse_idle_teachers(recipe.teachers, recipe.student.steps, composition)
    for remark in teacher_prompt_remarks(composition.cases(), recipe.critic.prompts):
        reporter.say(remark, "warning")
    if respelled := respelling_remark(recipe.model, composition.cases()):
        reporter.say(respelled, "warning")
    refuse_unfit_cases(recipe.model, composition.cases(), recipe.size, needed)
    if (exam := planned_exam(recipe, Path(out))) is not None:
        refuse_unfit_cases(recipe.model, exam.plain_cases, recipe.size, needed)
    estimate = estimate_conditioning(str(model_folder(recipe.model)))
    for remark in remarks:
        reporter.say(remark, "warning")
    for task in composition.tasks:
        counts = count_layouts(composition, task, lambda case: kind_of(case, estimate, recipe.size), recipe.run.batch)
        if words := counts.words():
            reporter.say(words)
    return composition


def encode_recipe(
    recipe: Recipe,
    out: str | Path,
    reporter: Reporter = SILENT,
    rank_slice: RankSlice = FULL_SLICE,
    composition: Composition | None = None,
) -> EncodedRecipe:
    """Encodes the recipe's cases into its store, or this process's part of them.

    What is in the store already is not encoded again. Only the encoder is loaded, and only if something is missing.

    Args:
        out: as for `accepted_cases`.
        rank_slice: this process's part, where several encode; all if not given.
        composition: from `accepted_cases`, where they were read before.

    Raises:
        CaseError, RecipeError, ModelError, EnvironmentRefused: before anything long begins.
    """
    recipe = settle_precision(recipe, Path(out), reporter)
    device = device_of(recipe.run, recipe.model)
    composition = composition or accepted_cases(recipe, out, reporter if rank_slice.rank == 0 else SILENT)
    store_folder, model = recipe.store_folder(Path(out)), model_summary(recipe.model)
    store = ConditioningStore(store_folder / model.fingerprint, model.fingerprint)
    negatives = recipe.negatives(composition.tasks, model.guidance)
    prepared = EncodedRecipe(recipe, store, composition, negatives, planned_exam(recipe, Path(out)))
    if needs_encoding(prepared.cases, store, size=recipe.size, negatives=negatives, rank_slice=rank_slice):
        _encode(prepared, device, reporter, rank_slice)
        free_unused(device)
    return prepared


def encode_on_all_ranks(
    recipe: Recipe, out: Path, reporter: Reporter, ranks: Ranks, composition: Composition
) -> EncodedRecipe:
    """Each rank encodes its part of what is missing; then every rank finds all of it in the store."""
    prepared = encode_recipe(recipe, out, reporter, ranks.rank_slice, composition)
    ranks.wait()
    held = prepared.store
    return replace(prepared, store=ConditioningStore(held.folder, held.fingerprint)) if ranks.world > 1 else prepared


def _encode(prepared: EncodedRecipe, device: torch.device, reporter: Reporter, rank_slice: RankSlice) -> None:
    recipe, store = prepared.recipe, prepared.store
    with reporter.waiting(f"loading the encoder of {recipe.model}"):
        encoder = load_backbone(recipe.model, dtype=PRECISIONS[recipe.run.precision], device=device, parts="encoder")
    done = encode_cases(
        encoder,
        prepared.cases,
        store,
        size=recipe.size,
        negatives=prepared.negatives,
        reporter=reporter,
        rank_slice=rank_slice,
    )
    reporter.say(f"encoded {done.new:,} conditionings in {done.seconds:.0f} s into {store.folder}{_how(encoder, done)}")


def _how(encoder: Backbone, done: EncodeResult) -> str:
    """How edits were encoded, where some were."""
    if done.edits == 0:
        return ""
    if encoder.batches_edits:
        return f"; edits up to {done.together} at once"
    return f"; edits one by one, since {encoder.family} does not take them together (docs/families.md)"
