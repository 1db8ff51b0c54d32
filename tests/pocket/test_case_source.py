"""`pocket:TASK:COUNT` as a source of cases."""

from pathlib import Path

import pytest

from fewstep.data.sources import read_source
from fewstep.pocket.case_source import pocket_file
from fewstep.runtime.errors import CaseError


def test_pocket_cases_are_the_same_each_time_and_go_on_after_a_break(tmp_path: Path) -> None:
    path = pocket_file("pocket:edit:8", "edit", tmp_path)
    first = {file.name: file.read_bytes() for file in path.parent.rglob("*") if file.is_file()}
    reference = sorted((path.parent / "references").iterdir())[0]
    reference.unlink()
    path.unlink()
    assert pocket_file("pocket:edit:8", "edit", tmp_path) == path
    assert {file.name: file.read_bytes() for file in path.parent.rglob("*") if file.is_file()} == first
    cases = read_source("pocket:edit:8", "edit", tmp_path)
    assert len(cases) == 8
    assert all(case.references for case in cases)
    assert all(case.category in {"scene", "perceptual", "object", "text", "identity", "style"} for case in cases)


@pytest.mark.parametrize("source", ["pocket:t2i", "pocket:t2i:none", "pocket:video:3", "pocket:t2i:0", "pocket:edit:3"])
def test_pocket_sources_that_make_no_sense(tmp_path: Path, source: str) -> None:
    with pytest.raises(CaseError, match=source):
        read_source(source, "t2i", tmp_path)
