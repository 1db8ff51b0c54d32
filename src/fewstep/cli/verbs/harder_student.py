"""`fewstep pocket student`: the harder world's demo with a teacher, a recipe and cases of one's own choice."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.backbones.embedded import HARDER
from fewstep.cli.chosen_recipe import chosen_recipe
from fewstep.cli.verbs.demo_kinds import Demo, Question, first_of_each_kind
from fewstep.pocket.harder.exam import HarderExamSpec
from fewstep.pocket.harder.known_words import HARDER_WORDS
from fewstep.pocket.harder.probe import READER
from fewstep.pocket.harder.run_examiner import reader_eval
from fewstep.pocket.harder.systems import SHOWN, compare_harder, refuse_no_teacher
from fewstep.run.extensions import Extensions
from fewstep.run.recipe import Recipe
from fewstep.runtime.errors import RecipeError
from fewstep.runtime.reporter import Reporter
from fewstep.runtime.task import TASKS, Task


@dataclass(frozen=True)
class HarderStudent:
    """
    Args:
        teacher: a folder, or an embedded one's name; the embedded one of this world if None.
        reader: a folder; the embedded one if None.
        counts: cases to distil with.
        settings: further keys of the recipe, as `--set`.
        cases: held-out cases of each category and kind of edit that it is examined on; `diversity` prompts of each
            category are drawn with several seeds.
    """

    teacher: str | None
    reader: Path | None
    counts: Mapping[Task, int]
    settings: Sequence[str]
    cases: int
    diversity: int

    def recipe(self) -> Recipe:
        """
        Raises:
            RecipeError: a wrong setting, or a teacher among the settings: the examination would take another one.
        """
        if any(setting.partition("=")[0].strip() == "model" for setting in self.settings):
            raise RecipeError("--set model: name the teacher with --teacher, so that it is examined beside its student")
        given: dict[str, Any] = {} if self.teacher is None else {"model": self.teacher}
        given |= {f"data.{task}": [{"source": f"{HARDER}:{task}:{self.counts[task]}"}] for task in TASKS}
        return chosen_recipe(
            HARDER,
            [*(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in given.items()), *self.settings],
        )

    def demo(self) -> Demo:
        """
        Raises:
            ModelError: no teacher or no reader of this world is there.
        """
        refuse_no_teacher(self.teacher or HARDER)
        extensions = Extensions(examiner=reader_eval(self.reader or READER))
        return Demo(self.recipe, self._examine, SHOWN, self._shown, HARDER_WORDS, extensions)

    @property
    def _spec(self) -> HarderExamSpec:
        return HarderExamSpec(cases=self.cases, diversity=self.diversity)

    def _shown(self) -> Sequence[Question]:
        return first_of_each_kind(self._spec.questions())

    def _examine(self, student: Path, to: Path, reporter: Reporter) -> dict[str, Any]:
        return compare_harder(student, self._spec, to, self.teacher or HARDER, self.reader or READER, reporter)
