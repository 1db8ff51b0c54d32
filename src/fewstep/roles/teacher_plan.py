"""The teacher plan lambda_{k,m}(c), as Python floats. It does without torch, because recipes are checked with it.
`roles/teacher_weights.py` makes tensors of it.

Shapes: B batch, M teachers (0 is the base), K student steps (0 is the noisiest).
s_real^(k)(z, t, c) = sum_m lambda_{k,m}(c) s_m(z, t, c) with lambda in [0, 1] and sum_m lambda_{k,m}(c) = 1 (arXiv
2606.03746, step-wise multi-teacher guidance). The paper prints no lambda; presets and defaults are ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from fewstep.roles.plan import Preset, TeachersSpec
from fewstep.runtime.errors import RecipeError
from fewstep.runtime.task import TASKS, Task

BASE = "base"
_ROUNDING = 1e-9
FULL_TRUST: Mapping[str, float] = MappingProxyType({})
_ValueT = TypeVar("_ValueT", float, tuple[float, ...])


def preset_rows(preset: Preset, steps: int) -> tuple[float, ...]:
    """The row of a preset for specialised teachers, before lam_max and ramp: a number in [0, 1] for each student
    step."""
    if preset == "base-only":
        return (0.0,) * steps
    if preset in ("constant", "specialised-alone"):
        return (1.0,) * steps
    if preset == "last-step-only":
        return (0.0,) * (steps - 1) + (1.0,)
    half = (
        steps / 2 - 1
    )  # step-wise, adaptive: 0 on the noisy half, then rising evenly to 1; 0, 0, 0.5, 1 for four steps (ours)
    return tuple(max(0.0, (k - half) / (steps - 1 - half)) for k in range(steps))


@dataclass(frozen=True)
class TeacherSchedule:
    """One specialised teacher in the plan.

    Args:
        weights_K: lambda at each student step once the ramp is over. None for an anchor, which replaces the base: it
            gets the weight that the weighted teachers leave.
        tasks, categories: what it teaches; None means all.
    """

    name: str
    weights_K: tuple[float, ...] | None
    tasks: tuple[Task, ...] | None = None
    categories: tuple[str, ...] | None = None

    def teaches(self, task: Task, category: str | None) -> bool:
        return (self.tasks is None or task in self.tasks) and (self.categories is None or category in self.categories)


@dataclass(frozen=True)
class TeacherPlan:
    """lambda_{k,m}(c) as floats. Rows sum to 1 by construction: the base, or an anchor in its place, gets the rest.

    Args:
        schedules: the specialised teachers.
        ramp: fraction of the iterations over which the weights rise from 0.
        alone: specialised teachers may take all weight at the noisiest student step.

    Raises:
        RecipeError: weights that sum to more than 1, two anchors for one sample, or nothing left for the base at the
            noisiest student step although the plan is not `alone`.
    """

    schedules: tuple[TeacherSchedule, ...] = ()
    ramp: float = 0.0  # fraction of the iterations over which the weights rise from 0
    alone: bool = False

    def __post_init__(self) -> None:
        for task, category in self._conditions():
            self._check(task, category)

    @property
    def names(self) -> tuple[str, ...]:
        """The teachers in the order of lambda's rows."""
        return (BASE, *(schedule.name for schedule in self.schedules))

    @property
    def used(self) -> tuple[str, ...]:
        """The teachers that can ever have weight, in the order of `names`; the others need not be loaded."""
        return (BASE, *(c.name for c in self.schedules if c.weights_K is None or any(c.weights_K)))

    @property
    def weighted(self) -> tuple[str, ...]:
        """The specialised teachers that ever have a weighted part; anchors have none."""
        return tuple(c.name for c in self.schedules if c.weights_K is not None and any(c.weights_K))

    def strength(self, iteration: int, iterations: int) -> float:
        """The height of the ramp: it rises from 0 at iteration 0 to 1 at iteration `ramp` x iterations, and stays 1."""
        rise = self.ramp * iterations
        return 1.0 if iteration >= rise else iteration / rise

    def row(
        self, k: int, strength: float, task: Task, category: str | None, trust: Mapping[str, float] = FULL_TRUST
    ) -> tuple[float, ...]:
        """lambda_{k,m}(c) of one sample for all m, in the order of `names`.

        trust: the share of its planned weights that a teacher has now; 1 for a teacher that is not named.
        """
        # lambda_{k,m}(c) >= 0, sum_m lambda_{k,m}(c) = 1    [the paper, arXiv 2606.03746, step-wise multi-teacher]
        here = [schedule.teaches(task, category) for schedule in self.schedules]
        lam = [
            strength * trust.get(schedule.name, 1.0) * schedule.weights_K[k]
            if taught and schedule.weights_K is not None
            else 0.0
            for schedule, taught in zip(self.schedules, here, strict=True)
        ]
        rest = max(0.0, 1.0 - sum(lam))
        for m, schedule in enumerate(self.schedules):
            if here[m] and schedule.weights_K is None:
                lam[m] = rest
                return (0.0, *lam)
        return (rest, *lam)

    def may_teach(
        self, k: int, iteration: int, iterations: int, task: Task, trust: Mapping[str, float] = FULL_TRUST
    ) -> tuple[bool, ...]:
        """For each teacher, in the order of `names`, whether a sample of this task could give it weight now.

        All categories count, not only those of a rank's own samples. So all ranks get the same answer.
        """
        strength = self.strength(iteration, iterations)
        rows = [self.row(k, strength, task, category, trust) for t, category in self._conditions() if t == task]
        return tuple(any(weight > 0 for weight in of_teacher) for of_teacher in zip(*rows, strict=True))

    def _conditions(self) -> list[tuple[Task, str | None]]:
        """Every task with every category that a teacher names, and with None for all others."""
        named = {category for schedule in self.schedules for category in schedule.categories or ()}
        return [(task, category) for task in TASKS for category in (*sorted(named), None)]

    def _check(self, task: Task, category: str | None) -> None:
        here = [schedule for schedule in self.schedules if schedule.teaches(task, category)]
        who = f"{task} samples" if category is None else f"{task} samples of '{category}'"
        anchors = [schedule.name for schedule in here if schedule.weights_K is None]
        if len(anchors) > 1:
            raise RecipeError(
                f"{who} have more than one anchor: {', '.join(anchors)}. Give them different tasks or categories"
            )
        weighted = {schedule.name: schedule.weights_K for schedule in here if schedule.weights_K is not None}
        for k, total in enumerate(map(sum, zip(*weighted.values(), strict=True))):
            if total > 1 + _ROUNDING:
                raise RecipeError(
                    f"teacher weights at student step {k} sum to {total:g} for {who}: {', '.join(weighted)}. "
                    "Lower teachers.lam_max, or give them different tasks or categories"
                )
            if k == 0 and total >= 1 - _ROUNDING and not self.alone:
                raise RecipeError(
                    f"teacher weights at student step 0 give the base teacher nothing for {who}; a specialised teacher "
                    "alone destabilises training. Leave 'base' a weight there (teachers.lam_max or teachers.rows below "
                    "1 in all, or other tasks or categories for each), or choose teachers.preset: specialised-alone "
                    "to reproduce the failure"
                )


def teacher_plan(spec: TeachersSpec, steps: int) -> TeacherPlan:
    """The plan that a recipe's section describes, for a student of `steps` steps.

    Raises:
        RecipeError: rows of another length, unknown or missing names, a preset that
            contradicts what else is given, or what `TeacherPlan` refuses.
    """
    weighted = [name for name, teacher in spec.named.items() if not teacher.anchor]
    alone = spec.preset == "specialised-alone"
    if spec.preset != "base-only" and not weighted:
        raise RecipeError(
            f"teachers.preset {spec.preset} needs a specialised teacher; add one under teachers.named, "
            "or choose base-only"
        )
    if spec.rows is not None and (alone or spec.preset == "base-only"):
        raise RecipeError(f"teachers.preset {spec.preset} fixes all weights; remove teachers.rows or choose constant")
    rows = _by_name("teachers.rows", spec.rows, weighted, preset_rows(spec.preset, steps))
    tops = dict.fromkeys(weighted, 1.0) if alone else _by_name("teachers.lam_max", spec.lam_max, weighted, 0.5)
    schedules = []
    for name, teacher in spec.named.items():
        weights_K = None
        if not teacher.anchor:
            weights_K = _scaled(name, tops[name], rows[name], steps)
        schedules.append(TeacherSchedule(name, weights_K, teacher.tasks, teacher.categories))
    ramped = not alone and spec.preset != "adaptive"
    return TeacherPlan(tuple(schedules), spec.ramp if ramped else 0.0, alone)


def _by_name(
    key: str, given: _ValueT | dict[str, _ValueT] | None, names: list[str], default: _ValueT
) -> dict[str, _ValueT]:
    """One value for each name."""
    if given is None:
        return dict.fromkeys(names, default)
    if not isinstance(given, dict):
        return dict.fromkeys(names, given)
    unknown, missing = sorted(set(given) - set(names)), sorted(set(names) - set(given))
    if unknown or missing:
        fault = f"names {', '.join(unknown)}, unknown here" if unknown else f"leaves out {', '.join(missing)}"
        raise RecipeError(
            f"{key} {fault}; the weighted teachers under teachers.named are: {', '.join(names) or 'none'}"
        )
    return given


def _scaled(name: str, top: float, row: Sequence[float], steps: int) -> tuple[float, ...]:
    if len(row) != steps:
        raise RecipeError(f"teachers.rows has {len(row)} numbers for '{name}' but the student takes {steps} steps")
    return tuple(top * value for value in row)
