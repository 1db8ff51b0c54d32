"""`fewstep study report`: what a study found, as JSON, Markdown, HTML and pictures. Reads files only: no model and no
torch, and the same files give the same bytes. What depends on the clock stands apart, in cost.md."""

import json
from pathlib import Path
from typing import Any

from fewstep import durable
from fewstep.study import costs, markdown, page
from fewstep.study.results import results
from fewstep.study.sheets import draw_figures


def report(folder: Path, to: Path | None = None) -> tuple[dict[str, Any], Path]:
    """The results of the study in `folder`, and where they were written: `to`, or `report` in the study's folder.

    Raises:
        StudyError: no study there.
    """
    found = results(folder)
    to = to or folder / "report"
    durable.make_folder(to)
    figures = [figure for figure, _ in draw_figures(folder, to)]
    durable.write(to / "results.json", json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    durable.write(to / "report.md", markdown.written(found, figures))
    durable.write(to / "report.html", page.rendered(found, figures))
    durable.write(to / "cost.md", costs.written(folder))
    return found, to
