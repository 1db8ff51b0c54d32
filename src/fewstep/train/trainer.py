"""The training loop: the order of iterations, records, checkpoints, and the end of a run."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from fewstep.encode.batch import Batch, MixedBatch
from fewstep.runtime.device import peak_gigabytes
from fewstep.runtime.errors import Interrupted, RecipeError, RunError, TrainingStopped
from fewstep.runtime.parallel import SINGLE_RANK, Ranks
from fewstep.runtime.processors import BusyWatch
from fewstep.runtime.reporter import SILENT, Advance
from fewstep.train.checkpoint import (
    Checkpoints,
    Position,
    load_checkpoint,
)
from fewstep.train.dmd_step import DMDStep
from fewstep.train.ema_decay import LARGEST_START, shipped_words
from fewstep.train.examinations import Examinations
from fewstep.train.graceful_stop import GracefulStop
from fewstep.train.hooks import RunHooks
from fewstep.train.kept_students import KeptStudents
from fewstep.train.metrics import MetricsLog
from fewstep.train.monitor import (
    NonFiniteCounter,
    PullMonitor,
    StepMetrics,
    merge_over_ranks,
    pulls_of,
    to_host,
)
from fewstep.train.plan import RunPlan
from fewstep.train.retention import Best, Ranking
from fewstep.train.sharded_checkpoint import ShardedCheckpoints
from fewstep.train.summary import summary
from fewstep.train.tell_stability import StabilityTeller

MetricsLine = dict[str, Any]  # of metrics.jsonl
FORMAT = 1  # of a checkpoint's state; raise when an older one could not be continued


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its last checkpoint and, if an examiner ranked them, its best one. stopped: a hook ended the run
    early, and the same call resumes it."""

    iterations: int
    last: Path
    best: Best | None
    stopped: bool = False


class Trainer:
    """One run in `folder`, where it owns metrics.jsonl and checkpoints/. `train` starts it or resumes it.

    Resuming takes no more than a checkpoint, because nothing else carries state: batches and random draws are functions
    of the iteration's number, and exit steps of the number of batches a task has had (`turns`).

    Args:
        batch: batch(i) is the data of iteration i, always the same for the same i.
        run: how long the run is, and when it saves and examines.
        hooks: the callbacks of the run.
        ranks: the processes that share the work. Only the first writes files and messages. With sharded weights all
            ranks take part when the first one renders or examines.
    """

    def __init__(
        self,
        folder: Path,
        step: DMDStep,
        batch: Callable[[int], Batch | MixedBatch],
        run: RunPlan,
        hooks: RunHooks | None = None,
        ranks: Ranks = SINGLE_RANK,
    ):
        self.step, self.roles, self.batch, self.run, self.ranks = step, step.roles, batch, run, ranks
        self.hooks = hooks or RunHooks()
        self.reporter = self.hooks.reporter if ranks.first else SILENT
        self.device = self.roles.student.backbone.device
        self.metrics = MetricsLog(folder / "metrics.jsonl")
        self.students = KeptStudents(folder)
        sharded = self.roles.student.has_sharded_parameters or self.roles.critic.has_sharded_parameters
        self.checkpoints = (ShardedCheckpoints if sharded else Checkpoints)(
            folder / "checkpoints",
            run.keep_checkpoints,
            lambda text: self.reporter.say(text, "warning"),
            ranks,
            self.students.keep if run.keep_students else lambda place: None,
        )
        self.nonfinite, self.pulls = NonFiniteCounter(run.max_skipped_updates), PullMonitor(step.settings.watch)
        self.stability = StabilityTeller(step.settings, self.metrics, self.checkpoints, self.reporter)
        self.position, self.ranking = Position(), Ranking(run, self.hooks.closeness)
        self.turns: Counter[str] = Counter()  # batches by task
        self.tasks: Counter[str] = Counter()  # samples by task
        self.categories: Counter[str] = Counter()  # samples by task and category, as t2i/portrait

    @cached_property
    def examinations(self) -> Examinations:
        looked = self.hooks, self.run, self.roles, self.step.optimizers.ema
        return Examinations(*looked, self.metrics, self.ranking, self.reporter, self.ranks)

    def train(self) -> Outcome:
        """Runs all iterations that are left.

        Raises:
            RecipeError: checkpoints are to be ranked by an examiner, and there is none.
            RunError: the newest checkpoint belongs to another seed, version or recipe.
            TrainingStopped: too many updates were not finite, or a teacher pulled too hard and the recipe says stop.
            Interrupted: a signal asked to end. The run is saved, and the same command resumes it.
        """
        examiners = (self.hooks.examine, self.hooks.self_exam)
        examined = any(each is not None for each in examiners) and self.run.examine_every_iterations
        if self.run.best_by and not examined:
            raise RecipeError("run.best_by needs an examiner and run.examine_every_iterations above 0; leave it out")
        self._resume()
        self._say_what_ships()
        try:
            stopped = self._run_loop()
        except TrainingStopped:
            self.checkpoints.finish()
            raise
        self.checkpoints.finish()
        last = self.checkpoints.folder / self.position.name
        return Outcome(self.position.iteration, last, self.ranking.first, stopped)

    def _run_loop(self) -> bool:
        """Runs warm-up and iterations. Returns whether a hook ended the run early."""
        with GracefulStop() as graceful_stop:
            self._warm_ups(graceful_stop)
            if self.position.iteration == 0:
                self.examinations.look(0)  # before the bar, whose pace is that of iterations
            elif self.examinations.out_of_patience():
                return False
            with self.reporter.progress("distilling", self.run.iterations, self.position.iteration) as advance:
                return self._iterations(graceful_stop, advance)

    def _warm_ups(self, graceful_stop: GracefulStop) -> None:
        """The critic's updates before the first iteration, those that are left."""
        total, done = self.step.settings.critic.warmup_iterations, self.position.warm_up
        if done >= total:
            return
        with self.reporter.progress("warming up the critic", total, done) as advance:
            for w in range(done, total):
                advance(details=summary(self._warm_up(w)))
                self._save_if_due(graceful_stop, w + 1)

    def _iterations(self, graceful_stop: GracefulStop, advance: Advance) -> bool:
        """What is left of them. Returns whether a hook ended the run early."""
        total = self.run.iterations
        busy = BusyWatch(self.reporter.say) if self.device.type == "cpu" and self.ranks.world == 1 else None
        for i in range(self.position.iteration, total):
            line = self._iterate(i)
            stop = self._respond_to_pulls(i, line)
            if self.ranks.first:
                self.stability.look(i, line)
            if busy:
                busy.look()
            advance(details=summary(line))
            seen, wanted = self.examinations.look(i + 1), self._wants_to_stop(i, line)
            better, over, stop = seen.better, seen.out_of_patience, stop or self._stopped_by(seen.halt)
            ends = stop is not None or wanted or over or i + 1 == total
            self._save_if_due(graceful_stop, i + 1, better or ends)
            if stop is not None:
                raise stop
            if over:
                return False
            if wanted:
                return i + 1 < total
        return False

    def _stopped_by(self, halt: str | None) -> TrainingStopped | None:
        """The error that ends a run because of what an examination showed; None if nothing does."""
        if halt is None:
            return None
        where = self.checkpoints.folder / self.position.name
        return TrainingStopped(f"{halt}. Saved in {where}: the same command goes on from there")

    def _wants_to_stop(self, i: int, line: MetricsLine) -> bool:
        """Whether `on_iteration` asks to end the run. The answer of the first rank counts for all."""
        if self.hooks.on_iteration is None:
            return False
        answer = self.hooks.on_iteration(i, line) if self.ranks.first else None
        return self.ranks.gather(answer)[0] == "stop"

    # ---- one iteration

    def _iterate(self, i: int) -> MetricsLine:
        batch, begun_s = self._batch(i), time.perf_counter()
        k = self.step.student.exit_step(batch.task, self.turns[batch.task])
        self.turns[batch.task] += 1
        categories = [category for part in self.ranks.gather(batch.categories) for category in part]
        self.tasks[batch.task] += len(categories)
        self.categories.update(f"{batch.task}/{category}" for category in categories)
        forwards = self.roles.teachers.forwards.copy()
        self.step.optimizers.student.set_lr(i, self.run.iterations)
        self.step.optimizers.critic.set_lr(i, self.run.iterations, self.step.settings.critic.warmup_iterations)
        metrics = self.step.iterate(i, k, *batch.micro_batches(self.run.parts(batch.task)))
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
        """Reacts to the pulls that iteration i measured: adapts the teachers' weights, and records events.

        Returns the error that ends the run, to be raised after it was examined and saved; None to go on.
        """
        pulls = pulls_of(line)
        for name in pulls.keys() & self.roles.teachers.trust.shares.keys():
            self.roles.teachers.trust.adapt(name, pulls[name])
        stops = [self._pull_event(i, name, line) for name in self.pulls.add(pulls)]
        return next((stop for stop in stops if stop is not None), None)

    def _pull_event(self, i: int, name: str, line: MetricsLine) -> TrainingStopped | None:
        """Reacts to a teacher that has pulled too hard for too long, as the recipe says. An anchor has no weight of its
        own to halve, so for an anchor the reaction is a warning."""
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
        self.step.optimizers.critic.set_lr(0, self.run.iterations, before=w)
        metrics = self.step.warm_up(w, *batch.micro_batches(self.run.parts(batch.task)))
        self.position = Position(0, w + 1)
        return self._record("warm-up", w, metrics, {"task": batch.task}, begun_s, batch.share)

    def _record(
        self, phase: str, number: int, metrics: StepMetrics, line: MetricsLine, begun_s: float, share: float
    ) -> MetricsLine:
        figures = merge_over_ranks(self.ranks.gather((share, to_host(metrics))))
        seconds = {**self.step.timer.seconds(), "iteration": round(time.perf_counter() - begun_s, 4)}
        written = {**line, **figures, "seconds": seconds}
        if (peak := peak_gigabytes(self.device)) is not None:
            written["gpu_peak_gb"] = peak
        self._write(phase, number, written)
        self.nonfinite.add(figures, f"{phase} iteration {number}")
        return written

    def _batch(self, i: int) -> Batch | MixedBatch:
        with self.step.timer.part("data"):
            return self.batch(i).to(self.device)

    # ---- saving and resuming

    def _save_if_due(self, graceful_stop: GracefulStop, done: int, now: bool = False) -> None:
        """Saves if it is time to, and ends the run if a signal asked for it.

        Ranks share what signals they got, so that all save and end after the same iteration.
        """
        asked = next((signal for signal in self.ranks.gather(graceful_stop.asked) if signal), None)
        if now or asked or done % self.run.save_every_iterations == 0:
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
            "average": optimizers.ema.progress(),
            "best": None if self.ranking.first is None else asdict(self.ranking.first),
            "ranking": self.ranking.state(),
        }
        self.checkpoints.save(self.position, tensors, state, self.ranking.iterations)

    def _load_trust(self, state: Mapping[str, Any]) -> None:
        """Takes over the teachers' trust from a checkpoint if it followed the same rule.

        Shares that were adapted are not a start for constant ones. Constant ones are not a start for shares that must
        grow by the pulls that are measured.
        """
        trust = self.roles.teachers.trust
        adapts = trust.adaptive is not None
        if not trust.shares or not state.get("trust"):
            return
        if state.get("trust_adapts", adapts) == adapts:
            trust.load(state["trust"])
        else:
            self.reporter.say("the teachers' trust begins anew: the checkpoint's followed another rule")

    def _resume(self) -> None:
        """Takes over the newest checkpoint that is complete and as it was written, if there is one.

        The first rank chooses it, and compares its hashes: ranks that look at a shared file system at different moments
        could see different ones. Lines of metrics.jsonl past the checkpoint are deleted, because those iterations run
        again.
        """
        place = self.ranks.gather(self.checkpoints.latest_intact() if self.ranks.first else None)[0]
        if place is not None:
            tensors, state = load_checkpoint(place, self.device, self._template, checked=True)
            if (state["format"], state["seed"]) != (FORMAT, self.step.student.draws.rng.seed):
                raise RunError(f"{place} was written with another seed or version. Start a new run folder")
            self.roles.student.load_state(tensors["student"])
            self.step.optimizers.ema.load_state(tensors["student_average"])
            self.roles.critic.load_state(tensors["critic"])
            self.step.optimizers.student.load_state(tensors["student_optimiser"])
            self.step.optimizers.critic.load_state(tensors["critic_optimiser"])
            self.position = Position(state["iteration"], state["warm_up"])
            self.step.optimizers.ema.go_on(state.get("average"), self.position.iteration)
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
            if self.run.keep_students:
                self.ranks.from_first(self.students.complete)
        if self.ranks.first:
            self.metrics.truncate_after(self.position)
            self.stability.go_on()

    def _say_what_ships(self) -> None:
        ema = self.step.optimizers.ema
        left = ema.start_share_after(self.run.iterations)
        if ema.warms_up:
            self.reporter.say(shipped_words(ema.decay))
        elif left <= LARGEST_START:
            self.reporter.say(f"what ships is the averaged student (student.ema {ema.decay:g})")
        else:
            self.reporter.say(
                f"this run's average has no warm-up, as it began with an earlier version: at its end {left:.0%} of the "
                "untrained start is in it, and it is what ships. Export the raw student (--weights raw), or begin anew",
                "warning",
            )

    def _template(self, stem: str, name: str) -> Tensor | None:
        """The parameter that a tensor of a checkpoint is placed like; None for step counts, which are not sharded."""
        network = self.roles.critic if stem.startswith("critic") else self.roles.student
        named = network.named_parameters()
        return (
            named.get(name) if name in named else named.get(name.removesuffix("/exp_avg").removesuffix("/exp_avg_sq"))
        )

    def _write(self, phase: str, number: int, figures: MetricsLine) -> None:
        if self.ranks.first:
            self.metrics.append(phase, number, figures)
