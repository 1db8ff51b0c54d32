"""One examination for a whole study: the same held-out cases and noise for every cell, seed, moment and teacher.

Cases are encoded once per process; edit sources and the teachers' pictures are drawn once per study. Only embedded
worlds can be examined here (`study/worlds.py`).
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.families import load_backbone
from fewstep.backbones.identity import digest, module_identity
from fewstep.bench.gallery import MANIFEST
from fewstep.flow.guidance import NO_GUIDANCE, Guidance
from fewstep.flow.rng import NamedRNG
from fewstep.flow.sigmas import SigmaGrid
from fewstep.pocket.exam_gallery import ExaminedSystem, keep_sources
from fewstep.pocket.systems import ConditioningCache, sampler_of
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.execution import Execution
from fewstep.roles.network import Network
from fewstep.roles.plan import TeachersSpec
from fewstep.roles.student_eval import StudentEval, StudentEvalSetup
from fewstep.roles.teachers import Teacher
from fewstep.run.folder import RunDir
from fewstep.runtime import durable
from fewstep.runtime.device import (
    PRECISIONS,
    autocast,
    resolve_device,
)
from fewstep.runtime.errors import RunError, StudyError
from fewstep.runtime.reporter import Reporter
from fewstep.runtime.task import TASKS, Task
from fewstep.sample.sampler import evaluations
from fewstep.study.folder import StudyFolder, open_study
from fewstep.study.grid import Run, StudyGrid
from fewstep.study.plan import BASE, StudyPlan
from fewstep.study.worlds import ExaminedWorld
from fewstep.train.kept_students import KeptStudents

UNGUIDED: Mapping[Task, Guidance] = dict.fromkeys(TASKS, NO_GUIDANCE)


def verdicts_file(world: ExaminedWorld) -> str:
    """Of an examination, relative to its folder."""
    return f"verdicts/{world.judge}.jsonl"


def is_examined(folder: Path, world: ExaminedWorld, questions: int) -> bool:
    """Whether the folder has verdicts on so many answers. Of another number they are a study's that asked otherwise."""
    file = folder / verdicts_file(world)
    return file.is_file() and sum(1 for _ in durable.read_jsonl(file)) == questions


def refuse_unknown_categories(plan: StudyPlan, world: ExaminedWorld) -> None:
    """
    Raises:
        StudyError: a premise is about a category that this world does not have, so it would never be examined.
    """
    known = world.categories
    for name, premise in plan.premises.items():
        for side in (premise.higher, premise.lower):
            for category in (side.categories or ()) if side is not None else ():
                if category not in known[premise.task]:
                    raise StudyError(
                        f"premises.{name} names the category {category}, which {world.name}'s {premise.task} cases "
                        f"do not have; it has: {', '.join(known[premise.task])}"
                    )


class Examination:
    """Draws the questions of `grid`'s protocol and writes the answers below `place`."""

    def __init__(self, grid: StudyGrid, place: StudyFolder, world: ExaminedWorld, reporter: Reporter):
        self.grid, self.place, self.world, self.reporter = grid, place, world, reporter
        protocol = grid.plan.protocol
        every = world.questions(protocol.cases, protocol.seed)
        self.questions = [(case, seed) for case, seed in every if case.task in protocol.tasks]
        self._asked = {(case.id, seed) for case, seed in self.questions}
        self._encoded: ConditioningCache | None = None

    def has(self, folder: Path) -> bool:
        """Whether the answers in `folder` exist and are judged."""
        return is_examined(folder, self.world, len(self.questions))

    def student_eval(self, run: Run) -> StudentEvalSetup:
        """The examiner of a run: examines its student at the study's moments and writes the results."""

        def with_backbone(backbone: Backbone) -> Callable[[Network, SigmaGrid, str], StudentEval]:
            encoded = self._encode(backbone)

            def for_student(student: Network, grid: SigmaGrid, precision: str) -> StudentEval:
                system = _system(student, grid, UNGUIDED, encoded, {"recipe": run.recipe.fingerprint()})

                def examine(iteration: int) -> dict[str, float]:
                    if iteration not in self.grid.moments:
                        return {}
                    facts = {**system.facts, "iteration": iteration}
                    folder = self.place.student(run.name, iteration)
                    return {"score": self._examine(ExaminedSystem(system.sampler, facts), folder)}

                return examine

            return for_student

        return with_backbone

    def kept_students(self, run: Run, moments: Sequence[int]) -> None:
        """Examines students that a trained run keeps, after these iterations: as the run itself does on its way.

        Raises:
            RunError: the run, or a kept student, cannot be read.
        """
        folder = self.place.run(run.name)
        recipe, students = RunDir.open(folder).recipe, KeptStudents(folder)
        plan = recipe.run
        device, dtype = resolve_device(plan.device, plan.precision), PRECISIONS[plan.precision]
        backbone = load_backbone(recipe.model, dtype=dtype, device=device, base_weights=plan.base_weights)
        setup = self.student_eval(run)(backbone)
        backbone.release_encoder()
        spec = RolesSpec(recipe.student, recipe.critic, recipe.teachers, plan.iterations)
        network = build_roles(backbone, spec, NamedRNG(plan.seed), Execution(plan.precision)).student
        examine = setup(network, recipe.student.grid, plan.precision)
        for moment in moments:
            try:
                kept = students.load(moment, backbone.device)
            except RunError as error:
                what = f"the student of {moment:,} iterations that {folder} keeps cannot be read"
                raise RunError(f"{what}; {self.place.to_make_again(run.name)}") from error
            network.load_state(kept)
            score = examine(moment)["score"]
            self.reporter.say(f"after {moment:,} iterations: score {score:.3f}")

    def teachers(self) -> None:
        """Every teacher that the study names, at its full sampler and its own guidance. Existing answers are kept."""
        missing = [name for name in self.grid.teachers if not self.has(self.place.teacher(name))]
        keep_sources(self.place.sources, self.questions)
        if not missing:
            return
        recipe = self.grid.recipe
        device = resolve_device(recipe.run.device, recipe.run.precision)
        backbone = load_backbone(recipe.model, dtype=PRECISIONS[recipe.run.precision], device=device)
        weights = digest(module_identity(backbone.transformer))
        encoded = self._encode(backbone)
        steps = self.grid.plan.protocol.teacher_steps or backbone.default_steps
        sizes = self.world.sizes
        levels = {size: backbone.sampling_grid(steps, backbone.layout_grid(size)) for size in sizes}
        for name, teacher in _teachers(self.grid, backbone).items():
            if name in missing:
                spec = self.grid.teacher(name)
                facts = {"base": weights, "teacher": None if spec is None else spec.adapter or spec.model}
                system = _system(teacher.network, levels, teacher.guidance, encoded, facts)
                with self.reporter.progress(f"teacher {name}", len(self.questions)) as advance:
                    self._examine(system, self.place.teacher(name), advance)

    def _refuse_outdated(self) -> None:
        held, own = open_study(self.place.folder).plan.protocol.cases, self.grid.plan.protocol.cases
        if held != own:
            raise StudyError(
                f"{self.place.folder} is examined on {held} cases a category by now, since another job asked for it; "
                f"start this one again with --cases {held}"
            )

    def _encode(self, backbone: Backbone) -> ConditioningCache:
        """The conditioning of all questions, made by the first backbone while it still has its encoder."""
        if self._encoded is None:
            self._encoded = ConditioningCache(backbone)
            with self.reporter.waiting("encoding the held-out cases"):
                for case, _ in self.questions:
                    self._encoded(case)
        return self._encoded

    def _examine(self, system: ExaminedSystem, folder: Path, advance: Callable[[int], object] | None = None) -> float:
        """Draws the system's answers and writes its verdicts to `folder`, the verdicts last. Returns its mean score.

        Raises:
            StudyError: the study asks another number of cases by now.
        """
        self._refuse_outdated()
        if any((line["case"], line["seed"]) not in self._asked for line in durable.read_jsonl(folder / MANIFEST)):
            shutil.rmtree(folder)  # answers to another number of cases, of a job that worked on beside this one
        with torch.no_grad():
            lines = self.world.verdicts(system, self.questions, self.grid.plan.protocol.seed, folder, advance)
        file = folder / verdicts_file(self.world)
        durable.make_folder(file.parent)
        durable.write_atomically(file, "".join(json.dumps(line) + "\n" for line in lines))
        return float(np.mean([line["score"] for line in lines]))


def _system(
    network: Network,
    grids: SigmaGrid | Mapping[tuple[int, int], SigmaGrid],
    guidance: Mapping[Task, Guidance],
    encoded: ConditioningCache,
    facts: Mapping[str, Any],
) -> ExaminedSystem:
    @contextmanager
    def inside() -> Iterator[None]:
        with network.active(), autocast(network.backbone.device, network.precision):
            yield

    by_size = {} if isinstance(grids, SigmaGrid) else grids
    first, *others = [grids] if isinstance(grids, SigmaGrid) else by_size.values()
    one = all(other == first for other in others)
    system_facts = {
        **facts,
        "precision": network.precision,
        "sigmas": list(first) if one else {f"{h} x {w}": list(levels) for (h, w), levels in by_size.items()},
        "guidance": {task: [g.scale, g.keep_norm, g.negative] for task, g in guidance.items()},
        "network_calls": {task: evaluations(first, g) for task, g in guidance.items()},
    }
    levels = first if one else by_size.__getitem__
    return ExaminedSystem(
        sampler_of(network.backbone, network.transformer, levels, guidance, encoded, inside), system_facts
    )


def _teachers(grid: StudyGrid, backbone: Backbone) -> Mapping[str, Teacher]:
    """The study's teachers over one backbone, each as a run would load it. Which student they teach does not matter
    here."""
    specs = {name: spec for name in grid.teachers if (spec := grid.teacher(name)) is not None}
    alone = {"anchor": False, "tasks": None, "categories": None}
    named = {name: spec.model_copy(update=alone) for name, spec in specs.items()}
    r = grid.recipe
    everyone = TeachersSpec.model_validate(
        {
            "preset": "constant" if named else "base-only",
            "lam_max": 0.5 / max(1, len(named)),  # any weight above 0: a teacher without one is not loaded
            "base": r.teachers.base,
            "named": named,
        }
    )
    of_all = RolesSpec(r.student, r.critic, everyone, iterations=1)
    roles = build_roles(backbone, of_all, NamedRNG(0), Execution(r.run.precision))
    return {name: teacher for name, teacher in roles.teachers.teachers.items() if name in (BASE, *specs)}
