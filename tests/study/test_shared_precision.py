"""All runs of a study share one precision: the answer of the machine that began it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewstep.runtime.cpu_bfloat16 import fast_bfloat16
from fewstep.runtime.errors import StudyError
from fewstep.study import plan, shared_precision
from fewstep.study.claim import claim_folder
from fewstep.study.folder import StudyFolder, open_study
from fewstep.study.grid import StudyGrid, resolve_grid
from tests.reporters import Recorded

HERE, OTHER = ("bf16", "fp32") if fast_bfloat16() else ("fp32", "bf16")
KEY = "worlds/pocket/set/run.precision"


def grid_in(file: str, *overrides: str) -> StudyGrid:
    return resolve_grid(*plan.load_study(file), overrides=["run.device=cpu", *overrides])


def precisions(grid: StudyGrid) -> set[str]:
    return {run.recipe.run.precision for run in grid.runs}


def test_the_machine_that_begins_a_study_is_asked_once(study_file: Callable[..., str], tmp_path: Path) -> None:
    said, place = Recorded(), StudyFolder(tmp_path / "study")
    grid = claim_folder(grid_in(study_file((KEY, "auto"))), place, said)
    assert precisions(grid) == {HERE}
    cells = open_study(place.folder).definition["cells"]
    assert {keys["run.precision"] for keys in cells.values()} == {HERE}
    measured = [words for _, words in said.said if words.startswith(f"precision {HERE}, since this CPU")]
    assert len(measured) == 1  # not once for each cell


def test_every_other_machine_goes_on_in_it(study_file: Callable[..., str], tmp_path: Path) -> None:
    """A study that was begun in the other precision, as a machine of another kind would."""
    file, place = study_file((KEY, "auto")), StudyFolder(tmp_path / "study")
    claim_folder(grid_in(file, f"run.precision={OTHER}"), place)
    said = Recorded()
    assert precisions(claim_folder(grid_in(file), place, said)) == {OTHER}
    assert said.said == []


def test_a_precision_that_is_named_is_no_machine_s_to_choose(study_file: Callable[..., str], tmp_path: Path) -> None:
    place = StudyFolder(tmp_path / "study")
    assert precisions(claim_folder(grid_in(study_file((KEY, OTHER))), place)) == {OTHER}
    with pytest.raises(StudyError, match=f"run.precision: {OTHER} -> {HERE}"):
        claim_folder(grid_in(study_file((KEY, HERE), name="other.yaml")), place)


@pytest.mark.parametrize("name", plan.shipped_studies())
def test_a_shipped_study_of_an_embedded_teacher_leaves_it_to_the_machine(name: str) -> None:
    study, _ = plan.load_study(name)
    embedded = [world for world in study.worlds if world in ("pocket", "harder")]
    assert embedded
    assert all(precisions(resolve_grid(study, world=world)) == {"auto"} for world in embedded)


def test_a_job_that_was_overtaken_takes_the_precision_of_the_one_before(
    study_file: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While this job measures, another one begins the study in the other precision."""
    file, place = study_file((KEY, "auto")), StudyFolder(tmp_path / "study")
    measure = shared_precision.settle_precision

    def overtaken(*given: Any, **named: Any) -> Any:
        claim_folder(grid_in(file, f"run.precision={OTHER}"), place)
        return measure(*given, **named)

    monkeypatch.setattr(shared_precision, "settle_precision", overtaken)
    assert precisions(claim_folder(grid_in(file), place)) == {OTHER}
