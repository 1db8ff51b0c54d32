"""A study's results as one static HTML page, in the style of all our reports, with its pictures beside it."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fewstep.pages.charts import (
    Series,
    interval,
    line_chart,
)
from fewstep.study import phrasing
from fewstep.study.plan import FigurePlan


def study_html(found: Mapping[str, Any], figures: Sequence[FigurePlan]) -> str:
    """The page. figures: those that were drawn, each NAME.png beside it."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("fewstep.study"), PackageLoader("fewstep.pages")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"words": phrasing, "drawn": claim_chart, "curve": curve}
    return environment.get_template("study.html").render(found=found, figures=figures)


def claim_chart(claim: Mapping[str, Any], takeaway: Mapping[str, Any]) -> Markup:
    """A claim's interval against the threshold it has to exceed, on the common scale of its takeaway."""
    found = claim["found"]
    if found is None:
        return Markup("")
    return interval(found["value"], found["low"], found["high"], _span(takeaway), at=_bar(claim))


def curve(told: Mapping[str, Any]) -> Markup:
    """Every cell's mean score over the iterations."""
    series = [
        Series(cell, [(p["iteration"], p["score"]["value"]) for p in points if p["score"]])
        for cell, points in told["cells"].items()
    ]
    return line_chart(series, "iteration", f"Mean score, {phrasing.task_words(told['task'])}")


def _bar(claim: Mapping[str, Any]) -> float:
    return 0.0 if claim["kind"] == "more" else -float(claim["margin"])


def _span(takeaway: Mapping[str, Any]) -> tuple[float, float]:
    """A range a little wider than every interval and every threshold."""
    ends = [_bar(claim) for claim in takeaway["claims"]] + [0.0]
    for claim in takeaway["claims"]:
        if claim["found"] is not None:
            ends += [v for v in (claim["found"][k] for k in ("value", "low", "high")) if v is not None]
    pad = 0.08 * (max(ends) - min(ends)) or 0.1
    return min(ends) - pad, max(ends) + pad
