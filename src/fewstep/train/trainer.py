"""The loop around the iteration: order, records, checkpoints, and ending well."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from fewstep.encode.batch import Batch
from fewstep.runtime.errors import (
    Interrupted,
    RecipeError,
    RunError,
    TrainingStopped,
)
from fewstep.runtime.parallel import SINGLE_RANK, Ranks
from fewstep.runtime.reporter import SILENT
from fewstep.train.checkpoint import (
    Checkpoints,
    Position,
    load_checkpoint,
)
from fewstep.train.dmd_step import DMDStep, StepMetrics
from fewstep.train.graceful_stop import GracefulStop
from fewstep.train.hooks import RunHooks
from fewstep.train.metrics import MetricsLog
from fewstep.train.monitor import (
    NonFiniteCounter,
    PullMonitor,
    merge_over_ranks,
    pulls_of,
    to_host,
)
from fewstep.train.plan import RunPlan
from fewstep.train.retention import Best, Ranking
from fewstep.train.sharded_checkpoint import ShardedCheckpoints
from fewstep.train.summary import summary

MetricsLine = dict[str, Any]  # of metrics.jsonl
FORMAT = 1  # of a checkpoint's state; raise when an older one could not be continued


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its last checkpoint and, where an examiner decided, its best. stopped: a hook ended it early;
    the same call goes on."""

    iterations: int
    last: Path
    best: Best | None
    stopped: bool = False


class Trainer:
    """One run in `folder` (metrics.jsonl and checkpoints/ are its own there). `train` begins it or goes on with it.

    Args:
        batch: the data, a pure function of the number.
        run: how long, and what is saved and looked at when.
        hooks: what the run calls on its way.
        ranks: who shares the work. The first alone writes and speaks; where weights lie in parts all have to run what
            it looks at.
    """

    def __init__(
        self,
        folder: Path,
        step: DMDStep,
        batch: Callable[[int], Batch],
        run: RunPlan,
        hooks: RunHooks | None = None,
        ranks: Ranks = SINGLE_RANK,
    ):
        self.step, self.roles, self.batch, self.run, self.ranks = step, step.roles, batch, run, ranks
        self.hooks = hooks or RunHooks()
        self.reporter = self.hooks.reporter if ranks.first else SILENT
        self.device = self.roles.student.backbone.device
        self.metrics = MetricsLog(folder / "metrics.jsonl")
        kept = folder / "checkpoints", run.keep_checkpoints, self.reporter.say, ranks
        sharded = self.roles.student.has_sharded_parameters or self.roles.critic.has_sharded_parameters
        self.checkpoints = ShardedCheckpoints(*kept) if sharded else Checkpoints(*kept)
        self.nonfinite, self.pulls = NonFiniteCounter(run.max_skipped_updates), PullMonitor(step.settings.watch)
        self.position, self.ranking = Position(), Ranking(run)
        self.turns: Counter[str] = Counter()  # batches by task
        self.tasks: Counter[str] = Counter()  # samples by task
        self.categories: Counter[str] = Counter()  # samples by task and category, as t2i/portrait

    def train(self) -> Outcome:
        """All that is left to do.

        Raises:
            TrainingStopped: too many updates were not finite.
            Interrupted: a signal asked to end. After both, the same command goes on.
        """
        examined = self.hooks.examine is not None and self.run.examine_every_iterations
        if self.run.best_by and not examined:
            raise RecipeError("run.best_by needs an examiner and run.examine_every_iterations above 0; leave it out")
        self._resume()
        try:
            stopped = self._run_loop()
        except TrainingStopped:
            self.checkpoints.finish()
            raise
        self.checkpoints.finish()
        last = self.checkpoints.folder / self.position.name
        return Outcome(self.position.iteration, last, self.ranking.first, stopped)

    def _run_loop(self) -> bool:
        """Whether a hook ended the run early."""
        warmup, total = self.step.settings.critic.warmup_iterations, self.run.iterations
        done = self.position.iteration + self.position.warm_up
        with GracefulStop() as graceful_stop, self.reporter.progress("distilling", total + warmup, done) as advance:
            for w in range(self.position.warm_up, warmup):
                advance(details=summary(self._warm_up(w)))
                self._save_if_due(graceful_stop, w + 1)
            if self.position.iteration == 0:
                self._evaluate(0)
            for i in range(self.position.iteration, total):
                line = self._iterate(i)
                stop = self._respond_to_pulls(i, line)
                advance(details=summary(line))
                better, wanted = self._evaluate(i + 1), self._wants_to_stop(i, line)
                ends = stop is not None or wanted or i + 1 == total
                self._save_if_due(graceful_stop, i + 1, better or ends)
                if stop is not None:
                    raise stop
                if wanted:
                    return i + 1 < total
        return False

    def _wants_to_stop(self, i: int, line: MetricsLine) -> bool:
        """Whether the hook that sees each iteration ends the run; the first rank's answer is everybody's."""
        if self.hooks.on_iteration is None:
            return False
        answer = self.hooks.on_iteration(i, line) if self.ranks.first else None
        return self.ranks.gather(answer)[0] == "stop"

    # ---- one turn of the loop

    def _iterate(self, i: int) -> MetricsLine:
        batch, begun_s = self._batch(i), time.perf_counter()
        k = self.step.student.exit_step(batch.task, self.turns[batch.task])
        self.turns[batch.task] += 1
        categories = [category for part in self.ranks.gather(batch.categories) for category in part]
        self.tasks[batch.task] += len(categories)
        self.categories.update(f"{batch.task}/{category}" for category in categories)
        forwards = self.roles.teachers.forwards.copy()
        for role_optimizer in (self.step.optimizers.student, self.step.optimizers.critic):
            role_optimizer.set_lr(i, self.run.iterations)
        metrics = self.step.iterate(i, k, *batch.micro_batches(self.run.gradient_accumulation))
        line: MetricsLine = {
            "student_step": k,
            "task": batch.task,
            "tasks": dict(sorted(self.tasks.items())),
            "categories": dict(sorted(self.categories.items())),
            "teacher_forwards": dict(sorted((self.roles.teachers.forwards - forwards).items())),
        }
        if self.roles.teachers.trust.shares:
            line["trust"] = dict(self.roles.teachers.trust.shares)
        self.position = replace(self.position, iteration=i + 1)
        return self._record("distil", i, metrics, line, begun_s, batch.share)

    def _respond_to_pulls(self, i: int, line: MetricsLine) -> TrainingStopped | None:
        """To what iteration i measured of its teachers: the weight they get from now on, and the declared answer. What
        ends the run, once it has been looked at and saved."""
        pulls = pulls_of(line)
        for name in pulls.keys() & self.roles.teachers.trust.shares.keys():
            self.roles.teachers.trust.adapt(name, pulls[name])
        stops = [self._pull_event(i, name, line) for name in self.pulls.add(pulls)]
        return next((stop for stop in stops if stop is not None), None)

    def _pull_event(self, i: int, name: str, line: MetricsLine) -> TrainingStopped | None:
        """A teacher has pulled too hard for too long. An anchor has all of the weight there is: nothing of it can be
        halved."""
        trust, plan = self.roles.teachers.trust, self.pulls.plan
        weighted = name in trust.shares
        answer = plan.answer if weighted or plan.answer != "halve" else "warn"
        if answer == "halve":
            trust.halve(name)
        measured = {key: line[f"{key}/{name}"] for key in ("pull", "ratio", "cosine")}
        event = {"teacher": name, "task": line["task"], "student_step": line["student_step"], **measured}
        event |= {"bound": plan.bound, "answer": answer, "trust": trust.shares.get(name)}
        self._write("event", i, event)
        message = (
            f"iteration {i}: teacher {name} pulls {measured['pull']:.3g} times as hard as the base pulls back, above "
            f"{plan.bound:g} for {plan.patience} measurements; answer: {answer}"
            + ("" if answer == plan.answer else ", since an anchor has no weight that could be halved")
        )
        self.reporter.say(message)
        if answer != "stop":
            return None
        return TrainingStopped(
            f"{message}. Saved in {self.checkpoints.folder / self.position.name}: the same command goes on from there. "
            "For a calmer run begin a new one with lower teachers.lam_max, or teachers.watch.answer: halve"
        )

    def _warm_up(self, w: int) -> MetricsLine:
        batch, begun_s = self._batch(w), time.perf_counter()
        metrics = self.step.warm_up(w, *batch.micro_batches(self.run.gradient_accumulation))
        self.position = Position(0, w + 1)
        return self._record("warm-up", w, metrics, {"task": batch.task}, begun_s, batch.share)

    def _record(
        self, phase: str, number: int, metrics: StepMetrics, line: MetricsLine, begun_s: float, share: float
    ) -> MetricsLine:
        figures = merge_over_ranks(self.ranks.gather((share, to_host(metrics))))
        seconds = {**self.step.timer.seconds(), "iteration": round(time.perf_counter() - begun_s, 4)}
        written = {**line, **figures, "seconds": seconds}
        self._write(phase, number, written)
        self.nonfinite.add(figures, f"{phase} iteration {number}")
        return written

    def _batch(self, i: int) -> Batch:
        with self.step.timer.part("data"):
            batch = self.batch(i)
            negatives = {prompt: cond.to(self.device) for prompt, cond in batch.negatives.items()}
            return replace(batch, cond=batch.cond.to(self.device), negatives=negatives)

    # ---- looking at the student

    def _evaluate(self, done: int) -> bool:
        """Render and examine the averaged student where due. Whether it is one of the best so far."""
        rendering = self.hooks.render if _due(done, self.run.sample_every_iterations) else None
        examining = self.hooks.examine if _due(done, self.run.examine_every_iterations) else None
        if rendering is None and examining is None:
            return False
        figures: dict[str, float] = {}
        if self.ranks.first or self.roles.is_sharded:
            with self.step.optimizers.ema.applied():
                if rendering is not None:
                    rendering(done)
                figures = dict(examining(done)) if examining is not None else {}
        figures = self.ranks.gather(figures)[0]
        if figures:
            self._write("examine", done, figures)
            self.reporter.say(
                f"after {done} iterations: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
            )
        return self._is_one_of_the_best(done, figures)

    def _is_one_of_the_best(self, done: int, figures: Mapping[str, float]) -> bool:
        name = self.run.best_by
        if name is None or not figures:
            return False
        if name not in figures:
            raise RecipeError(f"run.best_by is '{name}', but the examiner's figures are: {', '.join(sorted(figures))}")
        if done == 0:
            return False
        return self.ranking.enter(done, figures[name])

    # ---- keeping

    def _save_if_due(self, graceful_stop: GracefulStop, done: int, now: bool = False) -> None:
        """Save where due, and end the run where a signal asked for it."""
        asked = next((signal for signal in self.ranks.gather(graceful_stop.asked) if signal), None)
        if now or asked or _due(done, self.run.save_every_iterations):
            self._save()
        self.checkpoints.poll()
        if asked:
            where = self.checkpoints.folder / self.position.name
            raise Interrupted(
                f"stopped by {asked.name} and saved in {where}. The same command goes on from there", asked
            )

    def _save(self) -> None:
        optimizers = self.step.optimizers
        tensors = {
            "student": self.roles.student.state(),
            "student_average": optimizers.ema.state(),
            "critic": self.roles.critic.state(),
            "student_optimiser": optimizers.student.state(),
            "critic_optimiser": optimizers.critic.state(),
        }
        state = {
            "format": FORMAT,
            "seed": self.step.student.draws.rng.seed,
            "iteration": self.position.iteration,
            "warm_up": self.position.warm_up,
            "skipped": self.nonfinite.counts,
            "trust": self.roles.teachers.trust.shares,
            "trust_adapts": self.roles.teachers.trust.adaptive is not None,
            "pulls_over": self.pulls.over,
            "turns": self.turns,
            "tasks": self.tasks,
            "categories": self.categories,
            "best": None if self.ranking.first is None else asdict(self.ranking.first),
            "ranking": self.ranking.state(),
        }
        self.checkpoints.save(self.position, tensors, state, self.ranking.iterations)

    def _load_trust(self, state: Mapping[str, Any]) -> None:
        """Of a checkpoint that has some, under the same rule: shares that were adapted are no start for constant ones,
        nor constant ones for such as are to be earned."""
        trust = self.roles.teachers.trust
        adapts = trust.adaptive is not None
        if not trust.shares or not state.get("trust"):
            return
        if state.get("trust_adapts", adapts) == adapts:
            trust.load(state["trust"])
        else:
            self.reporter.say("the teachers' trust begins anew: the checkpoint's followed another rule")

    def _resume(self) -> None:
        place = self.ranks.gather(self.checkpoints.latest() if self.ranks.first else None)[0]
        if place is not None:
            tensors, state = load_checkpoint(place, self.device, self._template)
            if (state["format"], state["seed"]) != (FORMAT, self.step.student.draws.rng.seed):
                raise RunError(f"{place} was written with another seed or version. Start a new run folder")
            self.roles.student.load_state(tensors["student"])
            self.step.optimizers.ema.load_state(tensors["student_average"])
            self.roles.critic.load_state(tensors["critic"])
            self.step.optimizers.student.load_state(tensors["student_optimiser"])
            self.step.optimizers.critic.load_state(tensors["critic_optimiser"])
            self.position = Position(state["iteration"], state["warm_up"])
            self.nonfinite.counts = dict(state["skipped"])
            self._load_trust(state)
            self.pulls.over = Counter(state.get("pulls_over", {}))
            self.turns, self.tasks = Counter(state["turns"]), Counter(state["tasks"])
            self.categories = Counter(state["categories"])
            self.ranking.load(state)
            self.ranking.keep(
                self.ranks.gather(self.checkpoints.complete_iterations() if self.ranks.first else set())[0]
            )
            self.reporter.say(f"going on from {place}")
        if self.ranks.first:
            self.metrics.truncate_after(self.position)

    def _template(self, stem: str, name: str) -> Tensor | None:
        """The weight that this tensor of a checkpoint lies as; None for counts, which are whole."""
        network = self.roles.critic if stem.startswith("critic") else self.roles.student
        named = network.named_parameters()
        return (
            named.get(name) if name in named else named.get(name.removesuffix("/exp_avg").removesuffix("/exp_avg_sq"))
        )

    def _write(self, phase: str, number: int, figures: MetricsLine) -> None:
        if self.ranks.first:
            self.metrics.append(phase, number, figures)


def _due(done: int, every: int) -> bool:
    return every > 0 and done % every == 0
