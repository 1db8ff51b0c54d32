"""What a run's examinations cost, told before it begins, and how they are made to fit their share.

It is counted in forwards of the network, from the recipe alone: the same on every machine, so a run that goes on
examines the same set. Pixels, the VAE and the ranks' waiting are not in it; a run measures those, and examines more
rarely where they matter (`examiner.py`). A backward pass counts as two forwards, and recomputation as one more.
"""

from dataclasses import dataclass, replace

from fewstep.data.mixture import used_tasks
from fewstep.flow.guidance import Guidance
from fewstep.run.recipe import Recipe
from fewstep.run.self_exam.plan import ExaminePlan
from fewstep.runtime.task import Task
from fewstep.train.plan import AUTO

SLACK = 1.25  # ours: measured over declared share, from which examinations come more rarely
TIMES = 4  # examinations of a run, at least, ours: fewer say nothing of how it went
LEAST = 8  # cases of a task, ours: with fewer, an examination says little, so it comes more rarely instead
RECOMPUTED = {"off": 0.0, "selective": 0.3, "full": 1.0}  # forwards a backward pass repeats


@dataclass(frozen=True)
class ExamSchedule:
    """
    Args:
        plan: the section as it is carried out, perhaps with fewer cases than it asks for.
        every: iterations between examinations.
        pictures: of one examination.
        share: of the run's forwards, all examinations and the teachers' answers together.
        changed: what had to be changed to keep to the share, in words; empty if nothing.
    """

    plan: ExaminePlan
    every: int
    pictures: int
    share: float
    changed: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        seeds = f" at {self.plan.seeds} seeds" if self.plan.seeds > 1 and self.plan.prompts else ""
        told = f"examinations: {self.plan.prompts} prompts{seeds} and {self.plan.edits} edits"
        told = f"{told}, every {self.every} iterations, beside the teachers at all their steps and at the student's"
        return f"{told}; about {100 * self.share:.2g} % of the run's forwards"

    def as_dict(self) -> dict[str, int | float]:
        """For other programs."""
        counts = {"prompts": self.plan.prompts, "seeds": self.plan.seeds, "edits": self.plan.edits}
        return {**counts, "pictures": self.pictures, "every": self.every, "share_of_forwards": round(self.share, 4)}


def exam_schedule(recipe: Recipe, tasks: tuple[Task, ...], steps: int, guidance: Guidance) -> ExamSchedule | None:
    """The examinations of a recipe, fitted to their share; None if it has none.

    First there are fewer cases (down to 8 of each task), then they come half as often, and again, as long as there are
    four in the run. A share that cannot be kept so is exceeded, and the words say so.

    Args:
        tasks: of the run.
        steps, guidance: of the family's sampler, with which teachers answer where the recipe names no guidance.
    """
    if recipe.examine is None or recipe.run.examine_every_iterations == 0:
        return None
    sources = recipe.examine.sources(tasks)
    if not sources:
        return None
    counts = {"prompts": sources.get("t2i", ("", 0))[1], "edits": sources.get("edit", ("", 0))[1]}
    asked, every = recipe.examine.model_copy(update=counts), recipe.run.examine_every_iterations
    plan = asked
    while _share(recipe, plan, every, steps, guidance) > plan.share and (smaller := _smaller(plan)) != plan:
        plan = smaller
    rarest = recipe.run.iterations // TIMES
    while _share(recipe, plan, every, steps, guidance) > plan.share and every * 2 <= rarest:
        every *= 2
    share = _share(recipe, plan, every, steps, guidance)
    found = ExamSchedule(plan, every, _pictures(plan), share)
    return replace(
        found,
        changed=_changes(
            recipe, asked, found, _share(recipe, asked, recipe.run.examine_every_iterations, steps, guidance)
        ),
    )


def rarer(now: int, step: int, took: float, share: float) -> int:
    """Iterations between examinations from now on: more, and a multiple of `step`, if one takes too long.

    Args:
        now: the present number.
        took: of one examination, in iterations' time.
        share: the largest part of the time that they may take.
    """
    if took / (took + now) <= SLACK * share:
        return now
    needed = took * (1 - share) / share
    return max(now, step * -int(-needed // step))


def _changes(recipe: Recipe, asked: ExaminePlan, found: ExamSchedule, wanted: float) -> tuple[str, ...]:
    plan, told = found.plan, []
    if (plan.prompts, plan.edits) != (asked.prompts, asked.edits):
        told.append(f"{plan.prompts} prompts and {plan.edits} edits instead of {asked.prompts} and {asked.edits}")
    if found.every != recipe.run.examine_every_iterations:
        told.append(f"every {found.every} iterations instead of {recipe.run.examine_every_iterations}")
    if not told:
        return ()
    why = f"they would take {100 * wanted:.2g} % of the run's forwards, more than examine.share {plan.share:g}"
    still = f"; still {100 * found.share:.2g} %" if found.share > plan.share else ""
    return (f"examinations are cut to {' and '.join(told)}: {why}{still}",)


def _smaller(plan: ExaminePlan) -> ExaminePlan:
    """Three quarters of the cases of each task, but not fewer than LEAST of them."""
    fewer = {
        key: max(min(count, LEAST), count * 3 // 4) for key in ("prompts", "edits") if (count := getattr(plan, key))
    }
    return plan.model_copy(update=fewer)


def _pictures(plan: ExaminePlan) -> int:
    return plan.prompts * plan.seeds + plan.edits


def _share(recipe: Recipe, plan: ExaminePlan, every: int, steps: int, guidance: Guidance) -> float:
    iterations = recipe.run.iterations
    training = iterations * recipe.run.batch * _forwards_of_sample(recipe, guidance)
    each = _pictures(plan) * recipe.student.steps
    taught = sum(
        count * steps * (2 if _guided(recipe, task, guidance) else 1)
        for task, count in (("t2i", plan.prompts * plan.seeds), ("edit", plan.edits))
    )
    # The teachers answer once more at the student's steps, and the first examination is before the first iteration.
    examining = taught + each + each * (1 + iterations // every)
    return examining / (training + examining)


def _forwards_of_sample(recipe: Recipe, guidance: Guidance) -> float:
    """Of one sample in one iteration: rollout, the critic's updates, the student's, teachers and critic once."""
    trained = 3 + _recomputed(recipe)
    steps = recipe.student.steps
    rollout = (steps - 1) / 2 if recipe.critic.exit_step == "same" else steps
    seen = 0.0 if recipe.student.forward_once else 1.0  # the estimate that the critic learns from
    teachers = 2.0 if any(_guided(recipe, task, guidance) for task in ("t2i", "edit")) else 1.0
    return rollout + seen + trained * (recipe.critic.updates + 1) + 1 + teachers


def _recomputed(recipe: Recipe) -> float:
    """Forwards that are run again in a backward pass, in the mean over the tasks. While `auto` is not settled, none."""
    if recipe.run.gradient_checkpointing == AUTO:
        return 0.0
    tasks = used_tasks(recipe.mixture)
    return sum(RECOMPUTED[recipe.run.recomputation(task)] for task in tasks) / len(tasks)


def _guided(recipe: Recipe, task: str, default: Guidance) -> bool:
    """Whether some teacher of the task is guided."""
    given = [recipe.teachers.base.guidance, *(spec.guidance for spec in recipe.teachers.named.values())]
    return any((g[task].guidance() if g and task in g else default).active for g in given)  # type: ignore[index]
