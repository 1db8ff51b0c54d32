"""Where the rooms meet: from a recipe to a run folder, and from a run folder to a student.

cases -> conditioning store -> loader -> cast -> trainer -> student folder. Each command is one function here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.families import POCKET, load_backbone
from fewstep.conditioning import Task
from fewstep.data.composition import Composition
from fewstep.data.sources import composed
from fewstep.device import PRECISIONS, chosen_device
from fewstep.encode.encode import encode_cases
from fewstep.encode.loader import Loader
from fewstep.encode.store import ConditioningStore
from fewstep.export.folder import refuse_grid
from fewstep.export.of_run import write_student
from fewstep.flow.noise import Draw
from fewstep.parallel import ALONE, Ranks, device_of, joined
from fewstep.pocket.watching import Watching, watching
from fewstep.recipe import Recipe
from fewstep.roles.assemble import assemble
from fewstep.roles.vetting import vet, vet_start
from fewstep.rundir import RunDir
from fewstep.train.showing import Showing
from fewstep.train.trainer import Outcome, Trainer


@dataclass(frozen=True)
class Prepared:
    """What training starts from: the model, and every case encoded."""

    recipe: Recipe
    backbone: Backbone
    store: ConditioningStore
    composition: Composition
    negatives: Mapping[Task, tuple[str, ...]]

    def loader(self, ranks: Ranks = ALONE) -> Loader:
        r = self.recipe
        return Loader(
            self.store,
            self.composition,
            batch=r.run.batch,
            size=r.size,
            seed=r.run.seed,
            negatives=self.negatives,
            rank=ranks.rank,
            world=ranks.world,
        )


def encode(recipe: Recipe, out: Path, console: Console, ranks: Ranks = ALONE) -> Prepared:
    """The recipe's cases read and encoded into its store; what is there already stays.

    Raises:
        CaseError, RecipeError, ModelError, EnvironmentRefused: before anything long begins.
    """
    device = chosen_device(device_of(recipe.run.device, ranks), recipe.run.precision)
    place = recipe.place(out)
    with console.status("reading cases"):
        composition = composed(recipe.data, recipe.mixture, place / "cases")
    with console.status(f"loading {recipe.model}"):
        backbone = load_backbone(recipe.model, dtype=PRECISIONS[recipe.run.precision], device=device)
    backbone.layout_grid(recipe.size)
    store = ConditioningStore(place / backbone.fingerprint(), backbone.fingerprint())
    negatives = recipe.negatives(composition.tasks, backbone.default_guidance)
    cases = composition.cases()
    with Progress(console=console, transient=True) as progress:
        done = encode_cases(backbone, cases, store, size=recipe.size, negatives=negatives, progress=progress)
    if done.new:
        console.print(f"encoded {done.new:,} conditionings in {done.seconds:.0f} s into {store.folder}", soft_wrap=True)
    return Prepared(recipe, backbone, store, composition, negatives)


def distill(recipe: Recipe, out: Path, console: Console | None = None, *, watch: Watching | None = None) -> Outcome:
    """One run, from the recipe to its student folder. The same call goes on with a run that was stopped. A student of
    the pocket teacher is examined by the probe on the way; for other models nothing here can judge pictures.

    Under torchrun the ranks share each batch; the first one writes, examines, exports and speaks.

    Args:
        watch: makes the run's examiner, instead of the probe's usual one.

    Raises:
        FewstepError: everything that can be refused is refused before the first long step.
    """
    with joined(recipe.run.device) as ranks:
        ranks.agree("recipe", recipe.resolved_yaml())
        return _distill(recipe, out, (console or Console()) if ranks.first else Console(quiet=True), watch, ranks)


def _distill(recipe: Recipe, out: Path, console: Console, watch: Watching | None, ranks: Ranks) -> Outcome:
    device = chosen_device(device_of(recipe.run.device, ranks), recipe.run.precision)
    vet(recipe.teachers, recipe.student.steps, recipe.model)
    vet_start(recipe.student, recipe.model)
    refuse_grid(recipe.model, recipe.student.grid)
    with _opened(recipe, out, device, ranks) as run:
        prepared = _encoded(recipe, out, console, ranks)
        loader = prepared.loader(ranks)
        ranks.agree("cases", loader.identity())
        backbone = prepared.backbone
        # encodes, so before the encoder goes
        examiner = watch(backbone) if watch else watching(backbone) if recipe.model == POCKET else None
        backbone.release_encoder()
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
        )
        showing = Showing.of_loader(cast, loader, recipe.student.grid, recipe.run.precision, run.samples)
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


def _opened(recipe: Recipe, out: Path, device: torch.device, ranks: Ranks) -> RunDir:
    """The first rank makes and locks the run folder for all."""
    facts = {"device": str(device), "threads": torch.get_num_threads(), "ranks": ranks.world}
    run = RunDir.open_or_create(out, recipe, facts) if ranks.first else RunDir(out, recipe)
    ranks.wait()
    return run


def _encoded(recipe: Recipe, out: Path, console: Console, ranks: Ranks) -> Prepared:
    """The first rank encodes what is missing; the others then find all of it in the store."""
    if not ranks.first:
        ranks.wait()
    prepared = encode(recipe, out, console, ranks)
    if ranks.first:
        ranks.wait()
    return prepared


def _finish(run: RunDir, outcome: Outcome, console: Console) -> None:
    """The student folder of the best checkpoint, once."""
    if not any(run.student.iterdir()):
        with console.status("writing the student folder"):
            write_student(run, run.student, "best" if outcome.best else "last")
    console.print(f"student [bold]{run.student}[/], opens with DiffusionPipeline.from_pretrained", highlight=False)
