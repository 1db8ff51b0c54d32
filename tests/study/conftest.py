"""Files and folders of the studies in `made_studies.py`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from fewstep.study import plan
from fewstep.study.begin import begin_study
from fewstep.study.claim import covers
from fewstep.study.folder import StudyFolder
from fewstep.study.grid import resolve_grid
from tests.study.made_studies import Score, changed, judged


@pytest.fixture
def study_file(tmp_path: Path) -> Callable[..., str]:
    """Writes the tiny study, changed, and gives its path."""

    def write(*changes: tuple[str, Any], name: str = "tiny.yaml") -> str:
        path = tmp_path / name
        path.write_text(yaml.safe_dump(changed(*changes), sort_keys=False))
        return str(path)

    return write


@pytest.fixture
def examined(tmp_path: Path) -> Callable[..., Path]:
    """The folder of a shipped study as if it had been run: made-up scores, no model.
    score(row, run seed, task, category, case); rows are named as in scores.py."""

    def make(name: str, score: Score, *, seeds: int = 2, cases: int = 40) -> Path:
        study, _ = plan.load_study(name)
        runs = resolve_grid(study, seeds=seeds)
        place, last = StudyFolder(tmp_path / name), runs.moments[-1]
        numbers = tuple(dict.fromkeys(run.seed for run in runs.runs))
        begin_study(place, runs.plan, runs.definition(), last, numbers, covers(runs))
        tasks = runs.plan.protocol.tasks
        for teacher in runs.teachers:
            judged(place.teacher(teacher), tasks, cases, partial(score, f"teacher:{teacher}", 0))
        for run in runs.runs:
            for moment in runs.moments:
                row = run.cell if moment == last else f"{run.cell}@{moment / last:g}"
                judged(place.student(run.name, moment), tasks, cases, partial(score, row, run.seed))
        return place.folder

    return make
