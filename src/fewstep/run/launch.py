"""Where the rooms meet: from a recipe to a run folder, and from a run folder to a student.

cases -> conditioning store -> loader -> cast -> trainer -> student folder. Each command is one function here.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.families import (
    POCKET,
    load_backbone,
    model_summary,
)
from fewstep.backbones.pipeline_backbone import Parts
from fewstep.data.composition import Composition
from fewstep.data.order import refuse_few_samples
from fewstep.data.sources import build_composition
from fewstep.encode.check_cases import refuse_unfit_cases
from fewstep.encode.encode import encode_cases, needs_encoding
from fewstep.encode.estimate import shape_mismatch
from fewstep.encode.loader import Loader
from fewstep.encode.store import ConditioningStore
from fewstep.export.folder import refuse_grid
from fewstep.flow.rng import NamedRNG
from fewstep.lora.truncation import TruncatedFactors
from fewstep.pocket.student_eval import (
    StudentEvalBuilder,
    StudentEvalSetup,
    probe_eval,
)
from fewstep.roles.build import build_roles
from fewstep.roles.compilation import refuse_without_compiler
from fewstep.roles.sharding import Placement, placement_for
from fewstep.roles.teacher_plan import teacher_plan
from fewstep.roles.validation import validate_init_from, validate_teachers
from fewstep.run.folder import RunDir
from fewstep.run.fork import (
    begin_fork,
    fork_origin,
    refuse_interrupted_fork,
)
from fewstep.run.recipe import Recipe
from fewstep.run.student import export_from_run
from fewstep.runtime.device import (
    PRECISIONS,
    free_unused,
    refuse_software_bfloat16,
    resolve_device,
)
from fewstep.runtime.errors import RankLost
from fewstep.runtime.parallel import Ranks, process_group
from fewstep.runtime.rank_slice import FULL_SLICE, RankSlice
from fewstep.runtime.task import Task
from fewstep.train.checkpoint import Checkpoints
from fewstep.train.preview import SamplePreview
from fewstep.train.trainer import Outcome, Trainer


@dataclass(frozen=True)
class EncodedRecipe:
    """What training starts from: every case encoded. No part of the model is in memory."""

    recipe: Recipe
    store: ConditioningStore
    composition: Composition
    negatives: Mapping[Task, tuple[str, ...]]

    def loader(self, rank_slice: RankSlice = FULL_SLICE) -> Loader:
        r = self.recipe
        return Loader(
            self.store,
            self.composition,
            batch=r.run.batch,
            size=r.size,
            seed=r.run.seed,
            negatives=self.negatives,
            rank=rank_slice.rank,
            world=rank_slice.world,
        )


def encode_recipe(
    recipe: Recipe, out: Path, console: Console, rank_slice: RankSlice = FULL_SLICE, needed: Parts = "encoder"
) -> EncodedRecipe:
    """The recipe's cases read and encoded into its store, or this process's share of them; what is there already stays.
    Only what encodes is loaded, and only if something is missing.

    Args:
        needed: of the model's folder, must be whole; more than "encoder" where more will be loaded later.

    Raises:
        CaseError, RecipeError, ModelError, EnvironmentRefused: before anything long begins.
    """
    device = _device(recipe)
    store_folder = recipe.store_folder(out)
    with console.status("reading cases"):
        composition = build_composition(recipe.data, recipe.mixture, store_folder / "cases")
    refuse_unfit_cases(recipe.model, composition.cases(), recipe.size, needed)
    model = model_summary(recipe.model)
    store = ConditioningStore(store_folder / model.fingerprint, model.fingerprint)
    prepared = EncodedRecipe(recipe, store, composition, recipe.negatives(composition.tasks, model.guidance))
    if needs_encoding(
        composition.cases(), store, size=recipe.size, negatives=prepared.negatives, rank_slice=rank_slice
    ):
        if rank_slice.rank == 0 and (remark := shape_mismatch(composition.cases(), recipe.size)):
            console.print(f"[yellow]{escape(remark)}[/]", highlight=False, soft_wrap=True)
        _encode(prepared, device, console, rank_slice)
        free_unused(device)
    return prepared


def _encode(prepared: EncodedRecipe, device: torch.device, console: Console, rank_slice: RankSlice) -> None:
    recipe, store = prepared.recipe, prepared.store
    with console.status(f"loading the encoder of {recipe.model}"):
        encoder = load_backbone(recipe.model, dtype=PRECISIONS[recipe.run.precision], device=device, parts="encoder")
    with Progress(console=console, transient=True) as progress:
        done = encode_cases(
            encoder,
            prepared.composition.cases(),
            store,
            size=recipe.size,
            negatives=prepared.negatives,
            progress=progress,
            rank_slice=rank_slice,
        )
    console.print(f"encoded {done.new:,} conditionings in {done.seconds:.0f} s into {store.folder}", soft_wrap=True)


def distill_recipe(
    recipe: Recipe,
    out: Path,
    console: Console | None = None,
    *,
    watch: StudentEvalSetup | None = None,
    fork: str | None = None,
) -> Outcome:
    """One run, from the recipe to its student folder. The same call goes on with a run that was stopped. A student of
    the pocket teacher is examined by the probe on the way; for other models nothing here can judge pictures.

    Under torchrun the ranks share each batch; the first one writes, examines, exports and speaks.

    Args:
        watch: makes the run's examiner, instead of the probe's usual one.
        fork: another run's folder, or RUN@WHICH: go on from its checkpoint.

    Raises:
        FewstepError: everything that can be refused is refused before the first long step.
        RankLost: another rank has ended.
    """
    try:
        with process_group(recipe.run.device) as ranks:
            ranks.agree("recipe", recipe.resolved_yaml())
            spoken = (console or Console()) if ranks.first else Console(quiet=True)
            return _distill(recipe, out, spoken, watch, fork, ranks)
    except RankLost as lost:
        held = Checkpoints(out / "checkpoints", keep=1).latest()
        where = f"The same command goes on from {held}" if held else "No checkpoint was whole yet: start it again"
        raise RankLost(f"{lost}. {where}") from lost


def _distill(
    recipe: Recipe, out: Path, console: Console, watch: StudentEvalSetup | None, fork: str | None, ranks: Ranks
) -> Outcome:
    device = _device(recipe)
    if recipe.run.compile:
        refuse_without_compiler(device)
    refuse_few_samples(recipe.run.batch, ranks.world, recipe.run.gradient_accumulation)
    validate_teachers(recipe.teachers, recipe.student.steps, recipe.model)
    _warn_of_unused_teachers(recipe, console)
    _warn_of_truncated_lora(validate_init_from(recipe.student, recipe.model), recipe, console)
    refuse_grid(recipe.model, recipe.student.grid)
    with _open_run(recipe, out, fork, device, console, ranks) as run:
        prepared = _encode_on_all_ranks(recipe, out, console, ranks)
        loader = prepared.loader(ranks.rank_slice)
        ranks.agree("cases", loader.identity())
        ranks.from_first(lambda: run.pin_cases(loader.identity(), loader.counts()))
        placement = placement_for(recipe.run.sharding, ranks, device, recipe.run.precision)
        backbone, examiner = _load_model(recipe, device, placement, watch, console)
        rng = NamedRNG(recipe.run.seed)
        roles = build_roles(
            backbone,
            recipe.student,
            recipe.critic,
            recipe.teachers,
            iterations=recipe.run.iterations,
            rng=rng,
            precision=recipe.run.precision,
            gradient_checkpointing=recipe.run.gradient_checkpointing,
            compile=recipe.run.compile,
            placement=placement,
        )
        preview = SamplePreview.from_loader(
            roles, loader, recipe.student.grid, recipe.run.precision, run.samples, ranks
        )
        trainer = Trainer(
            run.folder,
            roles,
            loader.batch,
            rng,
            recipe.run,
            recipe.student,
            recipe.critic,
            recipe.objective,
            recipe.teachers.watch,
            examine=examiner(roles.student, recipe.student.grid, recipe.run.precision) if examiner else None,
            render=preview.render,
            console=console,
            ranks=ranks,
        )
        console.print(f"run folder [bold]{out}[/]: metrics.jsonl, checkpoints/, samples/", highlight=False)
        outcome = trainer.train()
        if ranks.first:
            _finish(run, outcome, console)
        ranks.wait()
        return outcome


def _warn_of_unused_teachers(recipe: Recipe, console: Console) -> None:
    """A declared teacher without weight is no error - a study's cell may leave it out - but is rarely meant."""
    used = teacher_plan(recipe.teachers, recipe.student.steps).used
    for name in [name for name in recipe.teachers.named if name not in used]:
        console.print(
            f"[yellow]teachers.named.{name} does not teach:[/] preset {recipe.teachers.preset} gives it no weight. "
            "Choose step-wise or another, or take the name out",
            highlight=False,
            soft_wrap=True,
        )


def _warn_of_truncated_lora(cut: TruncatedFactors | None, recipe: Recipe, console: Console) -> None:
    """A narrow student cannot hold all of a wide LoRA: no error, but nothing to keep silent about."""
    if cut is not None:
        console.print(
            f"[yellow]student.init_from is cut down[/] to the student's adapter, of rank {cut.words()}. "
            f"A wider one (student.adapter.rank) keeps more of {recipe.student.init_from}",
            highlight=False,
            soft_wrap=True,
        )


def _load_model(
    recipe: Recipe, device: torch.device, placement: Placement, watch: StudentEvalSetup | None, console: Console
) -> tuple[Backbone, StudentEvalBuilder | None]:
    """The model without its text encoder, and what examines its student. An examiner encodes prompts of its own and
    decodes, so for it the pocket model, which is tiny, is loaded whole by every rank."""
    watch = watch or (probe_eval if recipe.model == POCKET else None)
    dtype, int8 = PRECISIONS[recipe.run.precision], recipe.run.base_weights == "int8"

    def loaded(to: torch.device, parts: Parts) -> Backbone:
        return load_backbone(recipe.model, dtype=dtype, device=to, parts=parts, int8=int8)

    with console.status(f"loading {recipe.model}"):
        backbone = loaded(device, "all") if watch else placement.model(lambda to: loaded(to, "decoder"), device)
    examiner = watch(backbone) if watch else None
    backbone.release_encoder()
    return backbone, examiner


def _open_run(
    recipe: Recipe, out: Path, fork: str | None, device: torch.device, console: Console, ranks: Ranks
) -> RunDir:
    """The first rank makes and locks the run folder for all, and begins a fork."""
    if not ranks.first:
        ranks.wait()
        return RunDir(out, recipe)
    start = fork_origin(fork, recipe, out) if fork else None
    facts = {"device": str(device), "threads": torch.get_num_threads(), "ranks": ranks.world}
    run = RunDir.open_or_create(out, recipe, facts)
    try:
        if start:
            begin_fork(run, start, lambda text: console.print(text, highlight=False, markup=False))
        refuse_interrupted_fork(run)
        ranks.wait()
    except BaseException:
        run.close()
        raise
    return run


def _encode_on_all_ranks(recipe: Recipe, out: Path, console: Console, ranks: Ranks) -> EncodedRecipe:
    """Each rank encodes its share of what is missing; then every rank finds all of it in the store."""
    prepared = encode_recipe(recipe, out, console, ranks.rank_slice, needed="all")
    ranks.wait()
    held = prepared.store
    return replace(prepared, store=ConditioningStore(held.folder, held.fingerprint)) if ranks.world > 1 else prepared


def _device(recipe: Recipe) -> torch.device:
    """As the recipe asks for it. The pocket model is small enough for bf16 in software, and its recipe is the same on
    every laptop.

    Raises:
        EnvironmentRefused: it, or the precision on it, is not to be had here.
    """
    device = resolve_device(recipe.run.device, recipe.run.precision)
    if recipe.model != POCKET:
        refuse_software_bfloat16(device, recipe.run.precision)
    return device


def _finish(run: RunDir, outcome: Outcome, console: Console) -> None:
    """The student folder of the best checkpoint, once."""
    for left in run.folder.glob(f".{run.student.name}.*.tmp"):  # by a kill; the run is locked, so nobody writes there
        shutil.rmtree(left, ignore_errors=True)
    if not any(run.student.iterdir()):
        with console.status("writing the student folder"):
            export_from_run(run, run.student, "best" if outcome.best else "last")
    console.print(f"student [bold]{run.student}[/], opens with DiffusionPipeline.from_pretrained", highlight=False)
