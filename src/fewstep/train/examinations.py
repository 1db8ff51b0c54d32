"""What a run sees of its student on the way: previews, figures of examiners, events, and what follows from them."""

from collections.abc import Mapping
from dataclasses import dataclass

from fewstep.roles.roles import Roles
from fewstep.runtime.errors import RecipeError
from fewstep.runtime.parallel import Ranks
from fewstep.runtime.reporter import Reporter
from fewstep.train.ema import EMA
from fewstep.train.hooks import ExamEvent, RunHooks, SelfExam
from fewstep.train.metrics import MetricsLog
from fewstep.train.plan import RunPlan
from fewstep.train.retention import Ranking


@dataclass(frozen=True)
class Seen:
    """What follows from looking at the student.

    Args:
        better: it is one of the best so far, so it is saved.
        out_of_patience: no examination got better for `patience` of them.
        halt: what ends the run with an error, in words.
    """

    better: bool = False
    out_of_patience: bool = False
    halt: str | None = None


class Examinations:
    """Looks at the averaged student when it is time to, and records what is found.

    Args:
        hooks: who renders and examines.
        ranking: of the best students; it is filled here.
    """

    def __init__(
        self,
        hooks: RunHooks,
        run: RunPlan,
        roles: Roles,
        ema: EMA,
        metrics: MetricsLog,
        ranking: Ranking,
        reporter: Reporter,
        ranks: Ranks,
    ):
        self.hooks, self.run, self.roles, self.ema = hooks, run, roles, ema
        self.metrics, self.ranking, self.reporter, self.ranks = metrics, ranking, reporter, ranks

    def look(self, done: int) -> Seen:
        """Renders and examines the averaged student after `done` iterations, if it is time to. All ranks call it.

        Raises:
            RecipeError: run.best_by names a figure that nobody found.
        """
        drawing = self.hooks.render is not None and _due(done, self.run.sample_every_iterations)
        examining = self.hooks.examine is not None and _due(done, self.run.examine_every_iterations)
        itself = self.hooks.self_exam is not None and self.hooks.self_exam.due(done)
        if not (drawing or examining or itself):
            return Seen()
        figures, own = self._found(done, drawing, examining, itself)
        if figures:
            took = {"examination_seconds": round(own.seconds, 3)} if itself else {}
            self._write("examine", done, {**figures, **took})
            told = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
            self.reporter.say(f"after {done} iterations: {told}")
        halts = [self._tell(done, event) for event in own.events]
        better = self._is_one_of_the_best(done, figures)
        over = (examining or itself) and done > 0 and self.out_of_patience()
        return Seen(better, over, next((halt for halt in halts if halt is not None), None))

    def out_of_patience(self) -> bool:
        """Whether no examination got better for `patience` of them. It follows from the records alone, so a run that
        has ended so ends again when it is called once more."""
        patience, name = self.hooks.patience, self.run.best_by
        if patience is None or name is None:
            return False
        since = self.ranking.without_better(self.metrics.values(name)) if self.ranks.first else 0
        since = self.ranks.gather(since)[0]
        if since < patience:
            return False
        self.reporter.say(
            f"{since} examinations without a better {name}: the run ends here (examine.patience)", "result"
        )
        return True

    def _found(self, done: int, drawing: bool, examining: bool, itself: bool) -> tuple[dict[str, float], SelfExam]:
        """The figures of both examiners, as the first rank has them, and the self-examination."""
        figures: dict[str, float] = {}
        own = SelfExam({})
        together = self.ranks.first or self.roles.is_sharded
        if together or itself:
            with self.ema.applied():
                if drawing and together and self.hooks.render is not None:
                    self.hooks.render(done)
                if examining and together and self.hooks.examine is not None:
                    figures = dict(self.hooks.examine(done))
                if itself and self.hooks.self_exam is not None:
                    own = self.hooks.self_exam.examine(done)
        found: tuple[dict[str, float], SelfExam] = self.ranks.gather((figures | dict(own.figures), own))[0]
        return found

    def _tell(self, done: int, event: ExamEvent) -> str | None:
        """Records and says what an examination showed. Returns the words that end the run, if the answer is stop."""
        told = {"kind": event.kind, "words": event.words, "values": dict(event.values), "answer": event.answer}
        self._write("event", done - 1, told)
        message = f"after {done} iterations: {event.kind.replace('_', ' ')}: {event.words}; answer: {event.answer}"
        self.reporter.say(message, "warning")
        return f"{message} (examine.answers.{event.kind})" if event.answer == "stop" else None

    def _is_one_of_the_best(self, done: int, figures: Mapping[str, float]) -> bool:
        name = self.run.best_by
        if name is None or not figures or self.hooks.later:
            return False
        if name not in figures:
            return self._without_figure(name, figures)
        return done > 0 and self.ranking.enter(done, figures[name])

    def _without_figure(self, name: str, figures: Mapping[str, float]) -> bool:
        """A self-examination may miss a figure, and says so. An examiner that never finds it was named by mistake."""
        if self.hooks.self_exam is not None:
            self.reporter.say(f"{name} is missing this time, so this student is not ranked", "warning")
            return False
        raise RecipeError(f"run.best_by is '{name}', but the examiner's figures are: {', '.join(sorted(figures))}")

    def _write(self, phase: str, number: int, figures: Mapping[str, object]) -> None:
        if self.ranks.first:
            self.metrics.append(phase, number, dict(figures))


def _due(done: int, every: int) -> bool:
    return every > 0 and done % every == 0
