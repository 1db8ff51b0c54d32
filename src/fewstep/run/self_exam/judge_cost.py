"""What a judge of a run's examinations would be asked, told before the run begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from fewstep.bench.judge_requests import JudgeQuestion, LazyPicture
from fewstep.bench.judging import guess_cost
from fewstep.run.recipe import Recipe
from fewstep.run.self_exam.cost import ExamSchedule
from fewstep.run.self_exam.exam_judge import ExamJudge, exam_judge
from fewstep.runtime.task import Task

PROMPT = "x" * 200  # ours: a prompt of usual length, in characters


@dataclass(frozen=True)
class JudgeForecast:
    """
    Args:
        judge: who would be asked.
        calls: questions of the whole run, about the teachers' answers once.
        examinations: of the student, the untrained start aside.
        cost: by the declared prices, guessed from sizes and lengths; None without prices.
    """

    judge: ExamJudge
    calls: int
    examinations: int
    cost: float | None

    @property
    def words(self) -> str:
        price = "no price is declared" if self.cost is None else f"about {self.cost:,.2f} by the declared prices"
        budget = self.judge.endpoint.budget
        of = "" if budget is None else f", of a budget of {budget:g}"
        return (
            f"judge {self.judge.name}: {self.calls:,} calls at most, about the teachers' answers and "
            f"{self.examinations:,} examinations; {price}{of}"
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """Limits that end the judging before the run, in words."""
        told, most, budget = [], self.judge.plan.calls, self.judge.endpoint.budget
        if most is not None and most < self.calls:
            told.append(f"examine.judge.calls is {most:,}: later examinations will have no figure of the judge")
        if budget is not None and self.cost is not None and budget < self.cost:
            told.append(
                f"the budget of judge {self.judge.name} is {budget:g}, and about {self.cost:,.2f} would be needed: "
                "later examinations will have no figure of the judge"
            )
        return tuple(told)

    def as_dict(self) -> dict[str, Any]:
        """For other programs."""
        limits = {"budget": self.judge.endpoint.budget, "most_calls": self.judge.plan.calls}
        return {"name": self.judge.name, "calls": self.calls, "cost": self.cost, **limits}


def judge_forecast(recipe: Recipe, schedule: ExamSchedule, tasks: Sequence[Task]) -> JudgeForecast | None:
    """What the judge of a recipe would take; None if it names none.

    Raises:
        RecipeError: its declaration cannot be used.
    """
    judge = exam_judge(recipe.examine, tasks)
    if judge is None:
        return None
    plan, examinations = schedule.plan, recipe.run.iterations // schedule.every
    pictures = {"t2i": plan.prompts * plan.seeds, "edit": plan.edits}
    asked = [_question(judge, task, recipe.size) for task in judge.protocols for _ in range(pictures[task])]
    each = guess_cost(asked * judge.endpoint.repeats, judge.endpoint)
    times = 1 + examinations
    return JudgeForecast(judge, each.calls * times, examinations, None if each.cost is None else each.cost * times)


def _question(judge: ExamJudge, task: Task, size: tuple[int, int]) -> JudgeQuestion:
    """One of usual length, whose pictures are of the run's size. Nothing of it is sent."""
    picture = LazyPicture("", size, lambda: Image.new("RGB", size[::-1]))
    references = (picture,) if task == "edit" else ()
    return JudgeQuestion(judge.protocols[task], PROMPT, references, (picture,), {"category": ""})
