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
from fewstep.backbones.families import POCKET, load_backbone, told
from fewstep.backbones.pipeline_backbone import Parts
from fewstep.conditioning import Task
from fewstep.data.composition import Composition
from fewstep.data.order import refuse_few_samples
from fewstep.data.sources import composed
from fewstep.device import PRECISIONS, chosen_device, free_unused, refuse_software_bfloat16
from fewstep.encode.door import refuse_unfit
from fewstep.encode.encode import encode_cases, lacks
from fewstep.encode.estimate import other_shapes
from fewstep.encode.loader import Loader
from fewstep.encode.store import ConditioningStore
from fewstep.errors import RankLost
from fewstep.export.folder import refuse_grid
from fewstep.export.of_run import write_student
from fewstep.flow.noise import Draw
from fewstep.fork import begin, origin, refuse_half_begun
from fewstep.lora.shrink import Shrunk
from fewstep.parallel import Ranks, joined
from fewstep.pocket.watching import Examiner, Watching, watching
from fewstep.recipe import Recipe
from fewstep.roles.assemble import assemble
from fewstep.roles.compilation import refuse_without_compiler
from fewstep.roles.sharding import Lay, lay_of
from fewstep.roles.teacher_plan import teacher_plan
from fewstep.roles.vetting import vet, vet_start
from fewstep.rundir import RunDir
from fewstep.share import ALONE, Share
from fewstep.train.checkpoint import Checkpoints
from fewstep.train.showing import Showing
from fewstep.train.trainer import Outcome, Trainer


@dataclass(frozen=True)
class Prepared:
    """What training starts from: every case encoded. No part of the model is in memory."""

    recipe: Recipe
    store: ConditioningStore
    composition: Composition
    negatives: Mapping[Task, tuple[str, ...]]

    def loader(self, share: Share = ALONE) -> Loader:
        r = self.recipe
        return Loader(
            self.store,
            self.composition,
            batch=r.run.batch,
            size=r.size,
            seed=r.run.seed,
            negatives=self.negatives,
            rank=share.rank,
            world=share.world,
        )


def encode(recipe: Recipe, out: Path, console: Console, share: Share = ALONE, needed: Parts = "encoder") -> Prepared:
    """The recipe's cases read and encoded into its store, or this process's share of them; what is there already stays.
    Only what encodes is loaded, and only if something is missing.

    Args:
        needed: of the model's folder, must be whole; more than "encoder" where more will be loaded later.

    Raises:
        CaseError, RecipeError, ModelError, EnvironmentRefused: before anything long begins.
    """
    device = _device(recipe)
    place = recipe.place(out)
    with console.status("reading cases"):
        composition = composed(recipe.data, recipe.mixture, place / "cases")
    refuse_unfit(recipe.model, composition.cases(), recipe.size, needed)
    model = told(recipe.model)
    store = ConditioningStore(place / model.fingerprint, model.fingerprint)
    prepared = Prepared(recipe, store, composition, recipe.negatives(composition.tasks, model.guidance))
    if lacks(composition.cases(), store, size=recipe.size, negatives=prepared.negatives, share=share):
        if share.rank == 0 and (remark := other_shapes(composition.cases(), recipe.size)):
            console.print(f"[yellow]{escape(remark)}[/]", highlight=False, soft_wrap=True)
        _encode(prepared, device, console, share)
        free_unused(device)
    return prepared


def _encode(prepared: Prepared, device: torch.device, console: Console, share: Share) -> None:
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
            share=share,
        )
    console.print(f"encoded {done.new:,} conditionings in {done.seconds:.0f} s into {store.folder}", soft_wrap=True)


def distill(
    recipe: Recipe,
    out: Path,
    console: Console | None = None,
    *,
    watch: Watching | None = None,
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
        with joined(recipe.run.device) as ranks:
            ranks.agree("recipe", recipe.resolved_yaml())
            spoken = (console or Console()) if ranks.first else Console(quiet=True)
            return _distill(recipe, out, spoken, watch, fork, ranks)
    except RankLost as lost:
        held = Checkpoints(out / "checkpoints", keep=1).latest()
        where = f"The same command goes on from {held}" if held else "No checkpoint was whole yet: start it again"
        raise RankLost(f"{lost}. {where}") from lost


def _distill(
    recipe: Recipe, out: Path, console: Console, watch: Watching | None, fork: str | None, ranks: Ranks
) -> Outcome:
    device = _device(recipe)
    if recipe.run.compile:
        refuse_without_compiler(device)
    refuse_few_samples(recipe.run.batch, ranks.world, recipe.run.gradient_accumulation)
    vet(recipe.teachers, recipe.student.steps, recipe.model)
    _tell_unused(recipe, console)
    _tell_cut(vet_start(recipe.student, recipe.model), recipe, console)
    refuse_grid(recipe.model, recipe.student.grid)
    with _opened(recipe, out, fork, device, console, ranks) as run:
        prepared = _encoded(recipe, out, console, ranks)
        loader = prepared.loader(ranks.share)
        ranks.agree("cases", loader.identity())
        ranks.from_first(lambda: run.hold_cases(loader.identity(), loader.counts()))
        lay = lay_of(recipe.run.sharding, ranks, device, recipe.run.precision)
        backbone, examiner = _loaded(recipe, device, lay, watch, console)
        draw = Draw(recipe.run.seed)
        cast = assemble(
            backbone,
            recipe.student,
            recipe.critic,
            recipe.teachers,
            iterations=recipe.run.iterations,
            draw=draw,
            precision=recipe.run.precision,
            gradient_checkpointing=recipe.run.gradient_checkpointing,
            compile=recipe.run.compile,
            lay=lay,
        )
        showing = Showing.of_loader(cast, loader, recipe.student.grid, recipe.run.precision, run.samples, ranks)
        trainer = Trainer(
            run.folder,
            cast,
            loader.batch,
            draw,
            recipe.run,
            recipe.student,
            recipe.critic,
            recipe.objective,
            recipe.teachers.watch,
            examine=examiner(cast.student, recipe.student.grid, recipe.run.precision) if examiner else None,
            render=showing.render,
            console=console,
            ranks=ranks,
        )
        console.print(f"run folder [bold]{out}[/]: metrics.jsonl, checkpoints/, samples/", highlight=False)
        outcome = trainer.train()
        if ranks.first:
            _finish(run, outcome, console)
        ranks.wait()
        return outcome


def _tell_unused(recipe: Recipe, console: Console) -> None:
    """A declared teacher without weight is no error - a study's cell may leave it out - but is rarely meant."""
    used = teacher_plan(recipe.teachers, recipe.student.steps).used
    for name in [name for name in recipe.teachers.named if name not in used]:
        console.print(
            f"[yellow]teachers.named.{name} does not teach:[/] preset {recipe.teachers.preset} gives it no weight. "
            "Choose step-wise or another, or take the name out",
            highlight=False,
            soft_wrap=True,
        )


def _tell_cut(cut: Shrunk | None, recipe: Recipe, console: Console) -> None:
    """A narrow student cannot hold all of a wide LoRA: no error, but nothing to keep silent about."""
    if cut is not None:
        console.print(
            f"[yellow]student.init_from is cut down[/] to the student's adapter, of rank {cut.words()}. "
            f"A wider one (student.adapter.rank) keeps more of {recipe.student.init_from}",
            highlight=False,
            soft_wrap=True,
        )


def _loaded(
    recipe: Recipe, device: torch.device, lay: Lay, watch: Watching | None, console: Console
) -> tuple[Backbone, Examiner | None]:
    """The model without its text encoder, and what examines its student. An examiner encodes prompts of its own and
    decodes, so for it the pocket model, which is tiny, is loaded whole by every rank."""
    watch = watch or (watching if recipe.model == POCKET else None)
    dtype, int8 = PRECISIONS[recipe.run.precision], recipe.run.base_weights == "int8"

    def loaded(to: torch.device, parts: Parts) -> Backbone:
        return load_backbone(recipe.model, dtype=dtype, device=to, parts=parts, int8=int8)

    with console.status(f"loading {recipe.model}"):
        backbone = loaded(device, "all") if watch else lay.model(lambda to: loaded(to, "decoder"), device)
    examiner = watch(backbone) if watch else None
    backbone.release_encoder()
    return backbone, examiner


def _opened(
    recipe: Recipe, out: Path, fork: str | None, device: torch.device, console: Console, ranks: Ranks
) -> RunDir:
    """The first rank makes and locks the run folder for all, and begins a fork."""
    if not ranks.first:
        ranks.wait()
        return RunDir(out, recipe)
    start = origin(fork, recipe, out) if fork else None
    facts = {"device": str(device), "threads": torch.get_num_threads(), "ranks": ranks.world}
    run = RunDir.open_or_create(out, recipe, facts)
    try:
        if start:
            begin(run, start, lambda text: console.print(text, highlight=False, markup=False))
        refuse_half_begun(run)
        ranks.wait()
    except BaseException:
        run.close()
        raise
    return run


def _encoded(recipe: Recipe, out: Path, console: Console, ranks: Ranks) -> Prepared:
    """Each rank encodes its share of what is missing; then every rank finds all of it in the store."""
    prepared = encode(recipe, out, console, ranks.share, needed="all")
    ranks.wait()
    held = prepared.store
    return replace(prepared, store=ConditioningStore(held.folder, held.fingerprint)) if ranks.world > 1 else prepared


def _device(recipe: Recipe) -> torch.device:
    """As the recipe asks for it. The pocket model is small enough for bf16 in software, and its recipe is the same on
    every laptop.

    Raises:
        EnvironmentRefused: it, or the precision on it, is not to be had here.
    """
    device = chosen_device(recipe.run.device, recipe.run.precision)
    if recipe.model != POCKET:
        refuse_software_bfloat16(device, recipe.run.precision)
    return device


def _finish(run: RunDir, outcome: Outcome, console: Console) -> None:
    """The student folder of the best checkpoint, once."""
    for left in run.folder.glob(f".{run.student.name}.*.tmp"):  # by a kill; the run is locked, so nobody writes there
        shutil.rmtree(left, ignore_errors=True)
    if not any(run.student.iterdir()):
        with console.status("writing the student folder"):
            write_student(run, run.student, "best" if outcome.best else "last")
    console.print(f"student [bold]{run.student}[/], opens with DiffusionPipeline.from_pretrained", highlight=False)
