"""An examination as a value."""

from pathlib import Path

import pytest

from fewstep.run.examination import ExaminationResult
from fewstep.runtime.errors import RunError


def test_a_figure_that_is_not_there_is_refused_with_those_that_are() -> None:
    lines = [{"key": "t2i.attributes", "against": {}}, {"key": "edit.changed", "against": {}}]
    result = ExaminationResult({"figures": lines}, Path("runs/x"), {})
    assert result.line("edit.changed") == lines[1]
    with pytest.raises(RunError, match=r"runs/x has no figure t2i\.attribute; it has t2i\.attributes, edit\.changed"):
        result.line("t2i.attribute")
