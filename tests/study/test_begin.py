"""Jobs that begin one study at the same moment."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from fewstep.runtime.errors import StudyError
from fewstep.study.begin import begin_study
from fewstep.study.folder import StudyFolder, open_study
from fewstep.study.plan import validate_study
from tests.study.made_studies import changed

JOBS = 8
DEFINITION = {"name": "tiny", "world": "pocket", "protocol": {"cases": 1}, "teachers": [], "cells": {}}


def at_once(begin: Callable[[int], None]) -> list[StudyError]:
    """What jobs 0, 1, 2 ... were refused with, all begun at the same moment."""
    barrier = Barrier(JOBS)

    def job(number: int) -> StudyError | None:
        barrier.wait()
        try:
            begin(number)
        except StudyError as error:
            return error
        return None

    with ThreadPoolExecutor(JOBS) as pool:
        return [error for error in pool.map(job, range(JOBS)) if error is not None]


def test_seeds_that_jobs_add_at_once_are_all_kept(tmp_path: Path) -> None:
    plan = validate_study(changed(), "tiny.yaml")
    place = StudyFolder(tmp_path / "study")
    assert at_once(lambda number: begin_study(place, plan, DEFINITION, 2, (number,), {})) == []
    assert sorted(open_study(place.folder).seeds) == list(range(JOBS))


def test_of_two_studies_that_begin_at_once_one_is_refused(tmp_path: Path) -> None:
    plan = validate_study(changed(), "tiny.yaml")
    place = StudyFolder(tmp_path / "study")

    def begin(number: int) -> None:
        begin_study(place, plan, DEFINITION | {"teachers": [f"mine-{number}"]}, 2, (0,), {})

    refused = at_once(begin)
    assert len(refused) == JOBS - 1
    assert all("belongs to another study" in str(error) for error in refused)


def test_what_a_killed_job_left_half_written_goes(tmp_path: Path) -> None:
    place = StudyFolder(tmp_path / "study")
    plan = validate_study(changed(), "tiny.yaml")
    begin_study(place, plan, DEFINITION, 2, (0,), {})
    left = place.folder / f".{place.record.name}.12345.tmp"
    left.write_text("{")
    begin_study(place, plan, DEFINITION, 2, (1,), {})
    assert not left.exists()
    assert open_study(place.folder).seeds == (0, 1)
