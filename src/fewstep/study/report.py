"""`fewstep study report`: a study's results as JSON, Markdown, HTML and pictures. It reads files only, without a model
or torch, and the same files give the same bytes. Everything that depends on the clock is in cost.md."""

import json
from pathlib import Path
from typing import Any

from fewstep.runtime import durable
from fewstep.study import (
    costs,
    markdown,
    page,
)
from fewstep.study.results import results
from fewstep.study.sheets import draw_figures


def report_study(folder: Path, to: Path | None = None) -> tuple[dict[str, Any], Path]:
    """The results of the study in `folder`, and where they were written: `to`, or `report` in the study's folder.

    Raises:
        StudyError: no study there.
    """
    found = results(folder)
    to = to or folder / "report"
    durable.make_folder(to)
    figures = [figure for figure, _ in draw_figures(folder, to)]
    durable.write_atomically(
        to / "results.json", json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    )
    durable.write_atomically(to / "report.md", markdown.study_markdown(found, figures))
    durable.write_atomically(to / "report.html", page.study_html(found, figures))
    durable.write_atomically(to / "cost.md", costs.costs_markdown(folder))
    return found, to
