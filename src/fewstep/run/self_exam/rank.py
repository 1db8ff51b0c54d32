"""`fewstep rank`: all kept students of a run, examined alike, and which of them to ship."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.embedded import HARDER, POCKET
from fewstep.backbones.families import load_backbone
from fewstep.bench.paired.catalogue import COMPOSITE
from fewstep.bench.paired.ranking import RankedStudent, rank_students, to_ship
from fewstep.flow.rng import NamedRNG
from fewstep.roles.block_swap import placement_of_run
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.execution import Execution
from fewstep.run.best_by import own_figures
from fewstep.run.encoding import encode_recipe
from fewstep.run.folder import RunDir
from fewstep.run.preflight import device_of
from fewstep.run.recipe import Recipe
from fewstep.run.self_exam.examiner import RunExaminer, run_examiner
from fewstep.run.self_exam.measuring import measure_answers
from fewstep.run.self_exam.ranked import FOLDER, RANKED
from fewstep.run.self_exam.results import read_few, read_results, read_teacher
from fewstep.runtime import durable
from fewstep.runtime.device import PRECISIONS
from fewstep.runtime.errors import RecipeError, RunError
from fewstep.runtime.parallel import SINGLE_RANK
from fewstep.runtime.reporter import SILENT, Reporter
from fewstep.train.kept_students import KeptStudents

WORLD_SUITES = {
    POCKET: {"t2i": "pocket-t2i", "edit": "pocket-edit"},
    HARDER: {"t2i": "pocket-harder-t2i", "edit": "pocket-harder-edit"},
}


@dataclass(frozen=True)
class FewStepTeacher:
    """The teachers at the student's steps without guidance: what as many network calls give without training. figures:
    as of a student, on the same set."""

    steps: int
    figures: Mapping[str, float]


@dataclass(frozen=True)
class RunRanking:
    """The kept students of a run, best first. by: the figure that ranks them. ship: the iteration to ship; the same as
    `fewstep export --checkpoint best` takes from now on. few: None where the examination did not draw it."""

    run: Path
    by: str
    students: tuple[RankedStudent, ...]
    ship: int
    few: FewStepTeacher | None = None


def rank_run(run: str | Path, *, by: str | None = None, reporter: Reporter = SILENT) -> RunRanking:
    """Examines every kept student of a run on its frozen set, as far as the run has not done it, and ranks them with
    paired intervals. A run without an `examine` section gets a set now. Its ranking is written into the run folder, and
    `fewstep export --checkpoint best` follows it.

    Args:
        run: the run folder. The run may still be going on.
        by: a figure of the examination; `run.best_by` if it is one, else the composite.

    Raises:
        RunError: no run, no kept student, or none with that figure. RecipeError: a figure that this run cannot have.
    """
    opened = _with_exam(RunDir.open(Path(run)), reporter)
    figure = _figure(opened.recipe, by)
    kept = [iteration for iteration in KeptStudents(opened.folder).iterations() if iteration > 0]
    if not kept:
        raise RunError(f"{run} keeps no student yet; let it train until the first is saved")
    folder = opened.folder / FOLDER
    _examine_the_rest(opened, kept, reporter)
    teacher, results = read_teacher(folder), read_results(folder)
    assert teacher is not None, "the teacher's answers have just been measured"
    records = {i: results[i]["records"] for i in kept if i in results and results[i]["set"] == teacher["set"]}
    ranked = rank_students(records, teacher["records"], figure)
    without = [str(i) for i in kept if i not in {one.iteration for one in ranked}]
    if ranked and without:
        reporter.say(f"{figure} is missing of iterations {', '.join(without)}, which are not ranked", "warning")
    ship = to_ship(ranked)
    if ship is None:
        raise RunError(f"no kept student of {run} has the figure {figure}; name another with --by")
    told: dict[str, Any] = {"by": figure, "set": teacher["set"], "ship": ship}
    told["students"] = [one.as_dict() for one in ranked]
    durable.write_atomically(folder / RANKED, json.dumps(told, indent=1, allow_nan=False) + "\n")
    return RunRanking(opened.folder, figure, tuple(ranked), ship, _few(folder, teacher["set"]))


def _few(folder: Path, exam: str) -> FewStepTeacher | None:
    """None too where it was measured on another set than the students."""
    held = read_few(folder)
    if held is None or held.get("set") != exam:
        return None
    return FewStepTeacher(held["steps"], held["figures"])


def _with_exam(run: RunDir, reporter: Reporter) -> RunDir:
    """The run with a section on its examination, where its recipe has none."""
    recipe = run.recipe
    if recipe.examine is not None and recipe.run.examine_every_iterations:
        return run
    given: dict[str, Any] = {"share": 1.0, **WORLD_SUITES.get(recipe.model, {})}
    given |= {} if recipe.examine is None else recipe.examine.model_dump(mode="json")
    reporter.say("the run has no examination of its own; its students are examined with the default set")
    every = recipe.run.examine_every_iterations or recipe.run.save_every_iterations
    changed = recipe.changed({"examine": given, "run.examine_every_iterations": every})
    return RunDir(run.folder, changed)


def _figure(recipe: Recipe, by: str | None) -> str:
    own = own_figures(recipe)
    if by is None:
        return recipe.run.best_by if recipe.run.best_by in own else COMPOSITE
    if by not in own:
        raise RecipeError(f"--by {by:.60}: this run's examination has no such figure; it has {', '.join(own)}")
    return by


def _examine_the_rest(run: RunDir, kept: list[int], reporter: Reporter) -> None:
    """Draws and measures the students that the run has not examined. The model is loaded only if there are any."""
    folder = run.folder / FOLDER
    teacher, results = read_teacher(folder), read_results(folder)
    lacking = [i for i in kept if teacher is None or i not in results or results[i]["set"] != teacher["set"]]
    if not lacking:
        return
    examiner = _examiner(run, reporter)
    students, network = KeptStudents(run.folder), examiner.drawer.roles.student
    with reporter.progress("examining kept students", len(lacking)) as advance:
        for iteration in lacking:
            network.load_state(students.load(iteration, network.backbone.device))
            examiner.result_of(iteration)
            advance(1)


def _examiner(run: RunDir, reporter: Reporter) -> RunExaminer:
    recipe = run.recipe
    prepared = encode_recipe(recipe, run.folder, reporter)
    assert prepared.exam is not None, "the recipe has an examination"
    device, dtype = device_of(recipe.run, recipe.model), PRECISIONS[recipe.run.precision]
    with reporter.waiting(f"loading {recipe.model}"):
        placement = placement_of_run(recipe.run.swapped_blocks, "off", SINGLE_RANK, device, recipe.run.precision)

        def loaded(to: torch.device) -> Backbone:
            held = recipe.run.base_weights
            return load_backbone(recipe.model, dtype=dtype, device=to, parts="decoder", base_weights=held)

        backbone = placement.model(loaded, device)
    spec = RolesSpec(recipe.student, recipe.critic, recipe.teachers, recipe.run.iterations)
    roles = build_roles(backbone, spec, NamedRNG(recipe.run.seed), Execution(recipe.run.precision, placement=placement))
    return run_examiner(
        run, prepared.exam, prepared.store, prepared.negatives, roles, SINGLE_RANK, reporter, measure_answers
    )
