"""From axes to runs: every cell's recipe, resolved, and the check that the cells differ only in the axis."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import gcd
from pathlib import Path
from typing import Any

from fewstep.roles.plan import TeacherSpec
from fewstep.run import recipe as recipes
from fewstep.run.recipe import Recipe, flat_keys
from fewstep.run.reset_keys import reset_keys
from fewstep.run.world_parts import refuse_parts_of_another_world
from fewstep.runtime.errors import RecipeError, StudyError
from fewstep.study.plan import (
    BASE,
    StudyPlan,
    WorldPlan,
)
from fewstep.study.power import MOST_RUNS, runs_needed
from fewstep.study.takeaways import takeaways

DEFAULT_WORLD = "pocket"
BUDGET = ("run.iterations", "run.batch")
OWN = ("name", "store", "run.seed")  # keys in which runs of one study differ by their place in it


@dataclass(frozen=True)
class Run:
    """One run of the study: a cell at a seed. number: its position in the plan, from 0."""

    number: int
    cell: str
    seed: int
    recipe: Recipe

    @property
    def name(self) -> str:
        """The name of its folder, the same whenever and wherever the study is run."""
        return f"{self.cell}-seed{self.seed}"


@dataclass(frozen=True)
class StudyGrid:
    """A study in one world, with all its runs. recipe: the settings that all cells share; where cells differ, the
    values of the first cell at the first seed. reset: what is told of settings that replace
    a whole section."""

    plan: StudyPlan
    world: str
    runs: tuple[Run, ...]
    reset: tuple[str, ...] = ()

    @property
    def recipe(self) -> Recipe:
        return self.runs[0].recipe

    @property
    def teachers(self) -> tuple[str, ...]:
        return self.plan.worlds[self.world].teachers

    @property
    def moments(self) -> tuple[int, ...]:
        """Iterations after which every run is examined."""
        return self.plan.protocol.iterations_of(self.recipe.run.iterations)

    def teacher(self, name: str) -> TeacherSpec | None:
        """A specialised teacher as the recipes declare it; None for the base."""
        found = [run.recipe.teachers.named[name] for run in self.runs if name in run.recipe.teachers.named]
        return None if name == BASE else found[0]

    def definition(self) -> dict[str, Any]:
        """Everything that identifies this study, as JSON; another study differs in it. Seeds may be added to a study,
        so they are no part of it."""
        first = {run.cell: run.recipe for run in reversed(self.runs)}
        return {
            "name": self.plan.name,
            "world": self.world,
            "protocol": self.plan.protocol.described(),
            "teachers": list(self.teachers),
            "cells": {cell: _without_own(first[cell]) for cell in self.plan.cells},
            **self._premises(),
        }

    def _premises(self) -> dict[str, Any]:
        """Declared before the first run: a study with other premises is another study."""
        told = {name: premise.model_dump(mode="json") for name, premise in self.plan.premises.items()}
        return {"premises": told} if told else {}


def resolve_grid(
    plan: StudyPlan,
    beside: Path | None = None,
    *,
    world: str | None = None,
    seeds: int | None = None,
    cases: int | None = None,
    overrides: Sequence[str] = (),
) -> StudyGrid:
    """The study's runs: all cells at the first seed, then at the next.

    Args:
        beside: the study file's folder; recipes are looked for there.
        seeds: how many; seeds beyond those that the study names count on from its largest.
        cases: held-out cases per category, instead of the protocol's.
        overrides: `key=value` for all cells alike.

    Raises:
        StudyError: an unknown world, a cell that sets something off the axis, or cells with the same recipe.
        RecipeError: a recipe that contradicts itself; names the cell. One with cases or a LoRA of another embedded
            world.
    """
    chosen = _world(plan, world)
    if cases is not None:
        plan = plan.model_copy(update={"protocol": plan.protocol.model_copy(update={"cases": cases})})
    _refuse_off_axis(plan, chosen, overrides)
    numbers = _seeds(plan.seeds, seeds or _runs_of(plan))
    by_cell = {cell: _recipe(plan, chosen, beside, cell, overrides) for cell in plan.cells}
    _refuse_unequal(plan, by_cell)
    for recipe in by_cell.values():
        refuse_parts_of_another_world(recipe)
    _refuse_unknown_teachers(plan.worlds[chosen], by_cell)
    _refuse_unknown_takeaways(plan)
    runs = [Run(0, cell, seed, _seeded(by_cell[cell], seed)) for seed in numbers for cell in plan.cells]
    numbered = tuple(replace(run, number=number) for number, run in enumerate(runs))
    grid = StudyGrid(plan, chosen, numbered, _reset(plan, chosen, beside, by_cell, overrides))
    if len(grid.moments) < plan.protocol.mean_of_last:
        raise StudyError(
            f"{plan.name}: protocol.mean_of_last is {plan.protocol.mean_of_last}, and runs of so few iterations are "
            f"examined after {', '.join(map(str, grid.moments))} alone"
        )
    return grid


def _world(plan: StudyPlan, world: str | None) -> str:
    name = world or (DEFAULT_WORLD if DEFAULT_WORLD in plan.worlds else next(iter(plan.worlds)))
    if name not in plan.worlds:
        raise StudyError(f"{plan.name} has no world '{name}'; --world is one of: {', '.join(plan.worlds)}")
    return name


def _runs_of(plan: StudyPlan) -> int | None:
    """Runs of a cell by the study's declared power; None: as many as it names seeds."""
    if plan.power is None:
        return None
    needed = runs_needed(plan.power.smallest, plan.power.spread)
    if needed > MOST_RUNS:
        raise StudyError(
            f"{plan.name}: power.smallest {plan.power.smallest:g} at a spread of {plan.power.spread:g} asks for "
            f"{needed:,} runs of each cell; decide a larger difference, or give --seeds"
        )
    return max(len(plan.seeds), needed)


def _seeds(named: Sequence[int], wanted: int | None) -> list[int]:
    """The first `wanted` of the study's seeds. If there are not enough, the whole numbers after its largest follow."""
    if wanted is None:
        return list(named)
    if wanted < 1:
        raise StudyError(f"--seeds {wanted}: a study needs one run a cell at least")
    return [*named, *range(max(named) + 1, max(named) + 1 + wanted)][:wanted]


def _on_axis(key: str, axis: Sequence[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in axis)


def _refuse_off_axis(plan: StudyPlan, world: str, overrides: Sequence[str]) -> None:
    axis = ", ".join(plan.axis)
    for cell, told in plan.cells.items():
        strange = [key for key in told.set if not _on_axis(key, plan.axis)]
        if strange:
            raise StudyError(
                f"{plan.name}: cells.{cell} sets {strange[0]}, which is not on the axis ({axis}); set it under "
                "worlds for all cells alike, or make it an axis"
            )
    for key in plan.worlds[world].set:
        if key in BUDGET:
            raise StudyError(f"{plan.name}: worlds.{world}.set names {key}; write it under worlds.{world}.budget")
    for override in overrides:
        key = override.partition("=")[0].strip()
        if _on_axis(key, plan.axis):
            raise StudyError(f"--set {override}: {key} is what the cells differ in ({axis}); change the study file")
        if key in OWN:
            raise StudyError(f"--set {override}: {key} is each run's own; use --seeds, --out or the study file")


def _recipe(plan: StudyPlan, world: str, beside: Path | None, cell: str, overrides: Sequence[str]) -> Recipe:
    """A cell's recipe without a seed. A run keeps only what the study needs: its last checkpoint, and examinations at
    the protocol's moments. The period is their common divisor."""
    base, changes = _changed(plan, world, beside, cell, overrides)
    try:
        found = recipes.load_recipe(base, changes)
        period = reduce(gcd, plan.protocol.iterations_of(found.run.iterations))
        raw = found.resolved()
        raw["run"] |= {"examine_every_iterations": period}
        return recipes.parse_recipe(raw, base)
    except RecipeError as error:
        raise RecipeError(f"cell {cell}: {error}") from error


def _changed(
    plan: StudyPlan, world: str, beside: Path | None, cell: str, overrides: Sequence[str]
) -> tuple[str, list[str]]:
    """The recipe of the world, and what a cell changes in it; the cell's own settings are the last."""
    told = plan.worlds[world]
    budget = {"run.iterations": told.budget.iterations, "run.batch": told.budget.batch}
    keeping = {"run.keep_checkpoints": 1, "run.best_by": None, "run.sample_every_iterations": 0}
    given = {"name": f"{plan.name}-{cell}", **keeping, **budget, **told.set}
    base = told.recipe if beside is None or told.recipe in recipes.shipped_recipes() else str(beside / told.recipe)
    return base, [*_written(given), *overrides, *_written(plan.cells[cell].set)]


def _reset(
    plan: StudyPlan, world: str, beside: Path | None, by_cell: Mapping[str, Recipe], overrides: Sequence[str]
) -> tuple[str, ...]:
    """What is told of settings that replace a whole section: those of all cells once, and each cell's own."""
    shared: dict[str, None] = {}
    own: dict[str, list[str]] = {}
    for cell, recipe in by_cell.items():
        base, changes = _changed(plan, world, beside, cell, overrides)
        own[f"cells.{cell}"] = reset_keys(base, changes, recipe, len(changes) - len(plan.cells[cell].set))
        shared |= dict.fromkeys(key for key in reset_keys(base, changes, recipe) if key not in own[f"cells.{cell}"])
    where = f"worlds.{world}.set" + (" or --set" if overrides else "")
    return tuple(
        f"{place} sets a whole section, and so changes what it does not name: {'; '.join(keys)}"
        for place, keys in {where: [*shared], **own}.items()
        if keys
    )


def _written(keys: Mapping[str, Any]) -> list[str]:
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in keys.items()]


def _seeded(recipe: Recipe, seed: int) -> Recipe:
    raw = recipe.resolved()
    raw["name"] = f"{recipe.name}-seed{seed}"
    raw["run"] |= {"seed": seed}
    return recipes.parse_recipe(raw, recipe.name)


def _without_own(recipe: Recipe) -> dict[str, Any]:
    """The resolved recipe by dotted key, without the keys that do not influence the weights."""
    skip = (*OWN, *recipes.OPERATIONAL)
    every = flat_keys(recipe.resolved())  # a key of skip may hold a value for each task
    return {key: value for key, value in every.items() if not {key, key.rpartition(".")[0]} & {*skip}}


def _refuse_unequal(plan: StudyPlan, by_cell: Mapping[str, Recipe]) -> None:
    """Resolved recipes are compared, so indirect effects of a cell's settings are seen too."""
    first, *others = by_cell
    keys = {cell: _without_own(recipe) for cell, recipe in by_cell.items()}
    for other in others:
        off = [
            key
            for key in dict.fromkeys([*keys[first], *keys[other]])
            if keys[first].get(key) != keys[other].get(key) and not _on_axis(key, plan.axis)
        ]
        if off:
            raise StudyError(
                f"{plan.name}: cells {first} and {other} differ in {off[0]}, which is not on the axis "
                f"({', '.join(plan.axis)}); a difference between them could come from either"
            )
    seen: dict[str, str] = {}
    for cell, recipe in by_cell.items():
        same = seen.setdefault(recipe.fingerprint(), cell)
        if same != cell:
            raise StudyError(f"{plan.name}: cells {same} and {cell} are the same recipe; remove one of them")


def _refuse_unknown_teachers(world: WorldPlan, by_cell: Mapping[str, Recipe]) -> None:
    for name in world.teachers:
        specs = [recipe.teachers.named[name] for recipe in by_cell.values() if name in recipe.teachers.named]
        if name != BASE and not specs:
            raise StudyError(f"teachers names {name}, which is not base, and no cell has it under teachers.named")
        if any(spec != specs[0] for spec in specs):
            raise StudyError(f"teachers names {name}, which is another teacher in some cells; give it two names")


def _refuse_unknown_takeaways(plan: StudyPlan) -> None:
    """A premise of none of the study's verdicts would be declared and never asked."""
    for name, premise in plan.premises.items():
        theirs = {takeaway.number: takeaway.study for takeaway in takeaways()}
        own = [number for number, study in theirs.items() if study == plan.name] or [*theirs]
        strange = [number for number in premise.takeaways if number not in own]
        if strange:
            told = ", ".join(map(str, own))
            raise StudyError(f"{plan.name}: premises.{name} names takeaway {strange[0]}; there are: {told}")
