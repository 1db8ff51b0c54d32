"""How much of the untrained start stays in the averaged student, which ships. Known from the recipe alone."""

from fewstep.roles.plan import StudentPlan
from fewstep.runtime.errors import RecipeError
from fewstep.train.ema_decay import LARGEST_START, fewest_updates, largest_decay, start_share
from fewstep.train.plan import RunPlan


def refuse_untrained_start(student: StudentPlan, run: RunPlan) -> None:
    """
    Raises:
        RecipeError: more than `LARGEST_START` of the start would be left at the end.
    """
    left = start_share(student.ema, run.iterations, student.ema_warmup)
    if left > LARGEST_START:
        enough = fewest_updates(student.ema, warmup=student.ema_warmup)
        raise RecipeError(
            f"after {run.iterations:,} iterations an average with student.ema {student.ema:g} still holds {left:.1%} "
            f"of the untrained start, and it is what ships; {LARGEST_START:.0%} may stay. Set student.ema to "
            f"{largest_decay(run.iterations):g} or lower, or run.iterations to {enough:,} or more"
        )
