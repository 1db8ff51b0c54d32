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
from fewstep.errors import RunError
from fewstep.export import card
from fewstep.export.folder import export_student, refuse_grid
from fewstep.export.verify import verify
from fewstep.flow.noise import Draw
from fewstep.pocket.watching import watching
from fewstep.recipe import Recipe
from fewstep.roles.assemble import assemble
from fewstep.roles.vetting import vet
from fewstep.rundir import RunDir
from fewstep.train.checkpoint import Checkpoints, load, torn
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

    def loader(self) -> Loader:
        r = self.recipe
        return Loader(
            self.store,
            self.composition,
            batch=r.run.batch,
            size=r.size,
            seed=r.run.seed,
            negatives=self.negatives,
        )


def encode(recipe: Recipe, out: Path, console: Console) -> Prepared:
    """The recipe's cases read and encoded into its store; what is there already stays.

    Raises:
        CaseError, RecipeError, ModelError, EnvironmentRefused: before anything long begins.
    """
    device = chosen_device(recipe.run.device, recipe.run.precision)
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


def distill(recipe: Recipe, out: Path, console: Console | None = None) -> Outcome:
    """One run, from the recipe to its student folder. The same call goes on with a run that was stopped. A student of
    the pocket teacher is examined by the probe on the way; for other models nothing here can judge pictures.

    Raises:
        FewstepError: everything that can be refused is refused before the first long step.
    """
    console = console or Console()
    device = chosen_device(recipe.run.device, recipe.run.precision)
    vet(recipe.teachers, recipe.student.steps, recipe.model)
    refuse_grid(recipe.model, recipe.student.grid)
    with RunDir.open_or_create(out, recipe, {"device": str(device), "threads": torch.get_num_threads()}) as run:
        prepared = encode(recipe, out, console)
        loader = prepared.loader()
        backbone = prepared.backbone
        examiner = watching(backbone) if recipe.model == POCKET else None  # encodes, so before the encoder goes
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
        )
        console.print(f"run folder [bold]{out}[/]: metrics.jsonl, checkpoints/, samples/", highlight=False)
        outcome = trainer.train()
        _finish(run, outcome, console)
        return outcome


def _finish(run: RunDir, outcome: Outcome, console: Console) -> None:
    """The student folder of the best checkpoint, once."""
    if not any(run.student.iterdir()):
        with console.status("writing the student folder"):
            _export(run, run.student, "best" if outcome.best else "last", "bf16")
    console.print(f"student [bold]{run.student}[/], opens with DiffusionPipeline.from_pretrained", highlight=False)


def export_run(
    run: Path, to: Path, *, checkpoint: str, dtype: str, check: bool, console: Console | None = None
) -> None:
    """The student folder of a run's checkpoint: `best`, `last`, or an iteration's number."""
    console = console or Console()
    opened = RunDir.open(run)
    _export(opened, to, checkpoint, dtype)
    console.print(f"student [bold]{to}[/]", highlight=False)
    if check:
        with console.status("verifying with stock diffusers in a fresh process"):
            found = verify(to, size=opened.recipe.size)
        console.print(found.words(), highlight=False)


def _export(run: RunDir, to: Path, which: str, dtype: str) -> None:
    r = run.recipe
    tensors, state = load(checkpoint_of(run, which))
    about = card.About(
        name=r.name,
        size=r.size,
        base_name=_base_name(r.model),
        recipe_name=r.name,
        tasks=state["tasks"],
    )
    export_student(
        r.model,
        tensors["student_average"],
        r.student.mode,
        r.student.grid,
        to,
        r.resolved_yaml(),
        about=about,
        alpha=r.student.adapter.alpha if r.student.mode == "adapter" else None,
        dtype=dtype,
    )


def _base_name(model: str) -> str | None:
    """The hub id, where the model has one."""
    return None if model == POCKET or Path(model).is_dir() else model


def checkpoint_of(run: RunDir, which: str) -> Path:
    """A whole checkpoint by name: `last`, `best` (the last where no figure decided), or an iteration.

    Raises:
        RunError: there is none of that name.
    """
    last = Checkpoints(run.checkpoints, keep=1).latest()
    if last is None:
        raise RunError(f"{run.folder} has no whole checkpoint yet; let it train until the first is saved")
    if which == "last":
        return last
    if which == "best":
        best = load(last)[1]["best"]
        return last if best is None else run.checkpoints / f"iteration-{best['iteration']:06d}"
    if not which.isdecimal():
        raise RunError(f"--checkpoint is best, last or an iteration's number, not '{which}'")
    place = run.checkpoints / f"iteration-{int(which):06d}"
    if torn(place) is not None:
        kept = ", ".join(sorted(p.name.removeprefix("iteration-").lstrip("0") for p in run.checkpoints.glob("iter*")))
        raise RunError(f"{run.folder} keeps no checkpoint of iteration {which}; it has: {kept}")
    return place
