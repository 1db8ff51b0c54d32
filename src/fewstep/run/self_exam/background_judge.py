"""A judge that is asked about examinations while the run trains.

One thread of the first rank asks, one set of answers after another: the teacher's once, then the student's as they are
drawn. Every answer is on disk before it counts (`bench/attempts.py`), and a question is known by the pixels that it
shows. So a run that was killed asks only what is missing, and nothing that was paid for is asked again. Nothing of the
training waits for it but the end of a run, for a declared time.

    examination/judge/NAME.attempts.jsonl    every answer
    examination/judge/student-000100.json    what follows from them (judgements.py)
"""

import queue
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from fewstep.bench.attempts import Attempts
from fewstep.bench.judge_pass import attempts_of
from fewstep.bench.judge_requests import JudgeQuestion, JudgeRequest, LazyPicture, picture_of_file, requests_of
from fewstep.bench.judging import ask_judge, refuse_another_judge
from fewstep.run.folder import RunDir
from fewstep.run.self_exam.exam_cases import ExamCase, FrozenSet
from fewstep.run.self_exam.exam_judge import ExamJudge, exam_judge, pin_judge
from fewstep.run.self_exam.judgements import judgement
from fewstep.run.self_exam.prepare import PlannedExam
from fewstep.run.self_exam.results import (
    JUDGE_FOLDER,
    TEACHER,
    judgement_path,
    read_results,
    student_name,
    write_json_file,
)
from fewstep.runtime.parallel import Ranks
from fewstep.runtime.reporter import Reporter
from fewstep.train.checkpoint import Checkpoints

GRACE_S = 5.0  # ours: for calls in flight, which are paid for, when nobody waits any longer
TIMES_AGAIN = 2  # ours: in one start of a run, for a question that an endpoint that was down did not answer


class _NobodyWaits(Exception):
    """The run has ended, or does not wait any longer."""


class BackgroundJudge:
    """Asks within a `with` block.

    Args:
        exam: the frozen set, whose folder holds the pictures.
        examined: iterations whose students were examined before, by earlier starts of the run.
    """

    def __init__(self, judge: ExamJudge, exam: FrozenSet, examined: Iterable[int], reporter: Reporter):
        self.judge, self.exam, self.reporter = judge, exam, reporter
        self.attempts = attempts_of(exam.folder / JUDGE_FOLDER, judge.name)
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._nobody_waits, self._told = threading.Event(), set[str]()
        self._thread = threading.Thread(target=self._work, name="fewstep-judge", daemon=True)
        self._wanted: dict[str, list[JudgeRequest]] = {}
        self._asked_again: Counter[tuple[str, int]] = Counter()
        self._references: dict[Path, LazyPicture] = {}
        self._left: list[str] = [TEACHER]  # about whom something is to be asked; the thread's own
        self._given = False
        self._examined = sorted(iteration for iteration in examined if iteration)

    def __enter__(self) -> Self:
        pin_judge(self.judge, self.exam.folder)
        self._thread.start()
        for iteration in self._examined:
            self._put(iteration)
        return self

    def __exit__(self, *error: object) -> None:
        self._queue.put(None)
        self._nobody_waits.set()
        self._thread.join(GRACE_S)

    def submit(self, iteration: int) -> None:
        """The student's answers after so many iterations are drawn. The untrained start is not judged."""
        if iteration:
            judgement_path(self.exam.folder, student_name(iteration)).unlink(missing_ok=True)  # of other pictures
            self._put(iteration)

    def _put(self, iteration: int) -> None:
        self._given = True
        self._queue.put(student_name(iteration))

    def finish(self) -> None:
        """Waits for what is outstanding, as long as the recipe says, and says what is left."""
        self._queue.put(None)
        minutes = self.judge.plan.wait_minutes
        with self.reporter.waiting(f"waiting for judge {self.judge.name}, {minutes:g} minutes at most"):
            self._thread.join(60 * minutes)
        self._nobody_waits.set()
        self._thread.join(GRACE_S)
        if self._given and (self._thread.is_alive() or self._left):
            self.reporter.say(
                f"answers of judge {self.judge.name} are outstanding, and figures are missing for it "
                f"({self.exam.folder / JUDGE_FOLDER}). The same command asks for them",
                "warning",
            )

    # ---- the thread

    def _work(self) -> None:
        ends = False
        while not ends:
            came = [self._queue.get()]
            while not self._queue.empty():
                came.append(self._queue.get())
            ends = None in came
            students = [who for who in came if who is not None]
            for who in students:
                self._wanted.pop(who, None)  # drawn anew
            self._left = list(dict.fromkeys([*self._left, *students]))
            if students or self._wanted:
                self._left = self._round(self._left)

    def _round(self, waiting: Sequence[str]) -> list[str]:
        """Asks about each in turn. Returns those about which something is outstanding."""
        left = []
        for n, who in enumerate(waiting):
            try:
                if self._nobody_waits.is_set():
                    raise _NobodyWaits
                if not self._judge(who):
                    left.append(who)
            except _NobodyWaits:
                return [*left, *waiting[n:]]
            except Exception as error:  # whatever it is, a run of hours goes on without it
                self._tell(error)
                return [*left, *waiting[n:]]
        return left

    def _judge(self, who: str) -> bool:
        """Asks what is missing about one set of answers, and writes what is known of it. Whether that is all."""
        if who not in self._wanted:
            self._wanted[who] = requests_of([*self._questions(who)], self.judge.endpoint)
        wanted, endpoint = self._wanted[who], self.judge.endpoint
        with Attempts(self.attempts) as attempts:
            refuse_another_judge(attempts, endpoint)
            try:
                if waiting := self._affordable(self._unanswered(wanted, attempts), attempts):
                    self._asked_again.update(request.request_key for request in waiting)
                    ask_judge(waiting, endpoint, attempts, self._go_on, endpoint.give_up_after)
            finally:
                told = judgement(self.exam, self.judge.name, wanted, attempts)
                write_json_file(judgement_path(self.exam.folder, who), told)
            return not self._unanswered(wanted, attempts)

    def _questions(self, who: str) -> Iterator[JudgeQuestion]:
        """One about each picture that is there: an answer that was not finite has none."""
        for one in self.exam.cases:
            for seed in one.seeds:
                path = self.exam.picture(who, one, seed)
                if path.is_file():
                    yield self._question(one, seed, path)

    def _question(self, one: ExamCase, seed: int, path: Path) -> JudgeQuestion:
        case = one.case
        about: dict[str, Any] = {"case": case.id, "seed": seed, "task": case.task, "category": case.category}
        for reference in case.references:
            if reference not in self._references:
                self._references[reference] = picture_of_file(reference, case.where)
        shown = tuple(self._references[reference] for reference in case.references)
        answer = picture_of_file(path, str(path))
        return JudgeQuestion(self.judge.protocols[case.task], case.prompt, shown, (answer,), about)

    def _unanswered(self, wanted: Sequence[JudgeRequest], attempts: Attempts) -> list[JudgeRequest]:
        """What was never answered, and what an endpoint that was down did not answer: nothing was made for it, so
        nothing was paid. Such a question is asked a few times in one start of the run."""
        failed = [
            request
            for request in attempts.unanswered(wanted, ("failed",))
            if (held := attempts.result_of(request.request_key)) is not None
            and not held.get("tokens")
            and self._asked_again[request.request_key] <= TIMES_AGAIN
        ]
        return [*attempts.missing(wanted), *failed]

    def _affordable(self, waiting: list[JudgeRequest], attempts: Attempts) -> list[JudgeRequest]:
        """As many of them as `calls` of the recipe leaves."""
        most = self.judge.plan.calls
        if most is None or attempts.lines + len(waiting) <= most:
            return waiting
        self._say_once("calls", f"examine.judge.calls is {most}, and so many questions were asked: no more are")
        return waiting[: max(0, most - attempts.lines)]

    def _go_on(self, status: str) -> None:
        if self._nobody_waits.is_set():
            raise _NobodyWaits

    def _tell(self, error: Exception) -> None:
        words = str(error) or type(error).__name__
        self._say_once(type(error).__name__, f"judge {self.judge.name}: {words}")

    def _say_once(self, kind: str, text: str) -> None:
        if kind not in self._told and not self._nobody_waits.is_set():
            self._told.add(kind)
            self.reporter.say(f"{text}. The run goes on, and figures of the judge are missing", "warning")


class NoJudge:
    """In its place where a recipe names no judge, and on ranks that do not ask."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def submit(self, iteration: int) -> None:
        pass

    def finish(self) -> None:
        pass


def judge_of_run(
    run: RunDir, planned: PlannedExam | None, reporter: Reporter, ranks: Ranks
) -> BackgroundJudge | NoJudge:
    """The judge of a run's examinations, not begun. It goes on with what earlier starts of the run left, up to their
    last checkpoint: later examinations are drawn anew.

    Raises:
        RecipeError: as `exam_judge`.
    """
    judge = None if planned is None or not ranks.first else exam_judge(run.recipe.examine, planned.tasks)
    if judge is None or planned is None:
        return NoJudge()
    exam = planned.freeze(run.folder)
    reached = max(Checkpoints(run.checkpoints, keep=1).complete_iterations(), default=0)
    return BackgroundJudge(judge, exam, [i for i in read_results(exam.folder) if i <= reached], reporter)
