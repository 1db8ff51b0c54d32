"""`fewstep.distill`: one run, for a Python caller."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fewstep.roles.student_eval import StudentEvalSetup
from fewstep.run.extensions import Extensions, ExtraLossBuilder
from fewstep.run.launch import distill_recipe
from fewstep.run.recipe import Recipe
from fewstep.runtime.reporter import SILENT, Reporter
from fewstep.train.checkpoint import Position
from fewstep.train.hooks import OnIteration


@dataclass(frozen=True)
class DistilledRun:
    """How a call of `fewstep.distill` ended.

    Args:
        folder: the run folder, with metrics.jsonl, checkpoints and samples.
        iterations: how many are done, those of earlier calls included.
        last: the newest checkpoint.
        best: the checkpoint that the examiner's figure `run.best_by` chose; None where no figure decided, or where
            it is a judge's, which chooses among kept students for the student folder alone.
        best_figure: that figure.
        stopped: `on_iteration` ended the run before its last iteration. The same call goes on.
        student: the student folder, which `DiffusionPipeline.from_pretrained` opens; None of a stopped run.
    """

    folder: Path
    iterations: int
    last: Path
    best: Path | None
    best_figure: float | None
    stopped: bool
    student: Path | None


def distill(
    recipe: Recipe,
    out: str | Path,
    *,
    on_iteration: OnIteration | None = None,
    extra_losses: Sequence[ExtraLossBuilder] = (),
    examiner: StudentEvalSetup | None = None,
    fork: str | Path | None = None,
    reporter: Reporter = SILENT,
) -> DistilledRun:
    """Distils a teacher into a few-step student as the recipe says, and writes the student folder.

    Cases that are not in the conditioning store are encoded first. The same call goes on with a run that was stopped
    or killed, and ends as the unbroken run would have, to the last bit on a CPU. Source: the README's paper
    (arXiv 2606.03746); `fewstep.train.dmd_step` is its algorithm.

    Args:
        recipe: from `fewstep.load_recipe`.
        out: the run folder. It holds one recipe, and is made where it is missing.
        on_iteration: called as `on_iteration(i, line)` after iteration i (from 0), with the figures that it wrote into
            metrics.jsonl. Losses are means over the batch, `seconds` says how long each part took. The answer "stop"
            saves and ends the run.
        extra_losses: further terms of the student's loss. Each is called once with the run's networks, noise levels
            and named draws, and returns the term (docs/extending.md).
        examiner: judges the student on the way, instead of an embedded world's own; what it finds can choose the best
            checkpoint (`run.best_by`, docs/extending.md).
        fork: another run's folder, or "RUN@WHICH" with an iteration, `best` or `last`: go on from its checkpoint.
        reporter: where messages and progress go; nowhere if not given. `fewstep.TerminalReporter()` shows them.

    Raises:
        FewstepError: whatever speaks against the run, before its first long step; or `TrainingStopped`, where too many
            updates were not finite.
    """
    folder = Path(out)
    extensions = Extensions(examiner, tuple(extra_losses), on_iteration)
    outcome = distill_recipe(recipe, folder, reporter, extensions, None if fork is None else str(fork))
    best = outcome.best
    return DistilledRun(
        folder=folder,
        iterations=outcome.iterations,
        last=outcome.last,
        best=None if best is None else folder / "checkpoints" / Position(best.iteration).name,
        best_figure=None if best is None else best.value,
        stopped=outcome.stopped,
        student=None if outcome.stopped else folder / "student",
    )
