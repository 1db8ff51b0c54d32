"""A model's measurements of a gallery, as records like any metric's: GALLERY/metrics/<name>.jsonl."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from fewstep.backbones.lpips import Lpips
from fewstep.backbones.scorers import Features, Scorer
from fewstep.bench import measuring
from fewstep.bench.metrics import model_metrics
from fewstep.bench.metrics.by_name import METRICS
from fewstep.bench.metrics.measurements import Measurement
from fewstep.bench.metrics.metric import (
    GalleryPicture,
    Metric,
    Skipped,
    Values,
)
from fewstep.runtime.errors import GalleryError

VERSION = "1"


def score_gallery(
    gallery: Path, scorer: Scorer | Lpips, name: str, advance: Callable[[int, int], object] = lambda done, of: None
) -> list[Measurement]:
    """similarity and logit: of a picture and its prompt (models with two towers, text to image only: an instruction
    does not describe a picture). spread: mean distance to the case's other seeds. to_source, to_target: for an edit.
    LPIPS gives the last three as distances: far_from_seeds, far_from_source, far_from_target.

    Raises:
        GalleryError: no gallery, or the name of an existing metric.
    """
    if name in METRICS.names():
        raise GalleryError(f"'{name}' is a metric of its own; give the model another --name")
    metric = lpips_metric(scorer, name) if isinstance(scorer, Lpips) else scorer_metric(scorer, name)
    return measuring.run_metrics(gallery, [metric], advance=advance)[name]


def scorer_metric(scorer: Scorer, name: str) -> Metric:
    """The scorer as a metric. Features are cached: a picture is encoded once, however many siblings it has."""
    kept: dict[str, Features] = {}

    def features(shot: GalleryPicture) -> Features | Skipped:
        place = str(shot.row.get("file"))
        if place not in kept:
            if isinstance(shot.pixels, Skipped):
                return shot.pixels
            kept[place] = scorer.features([Image.fromarray(shot.pixels)])[0]
        return kept[place]

    def measure(shot: GalleryPicture) -> Values | Skipped:
        seen = features(shot)
        if isinstance(seen, Skipped):
            return seen
        others = [f for f in map(features, shot.siblings) if not isinstance(f, Skipped)]
        found = _fit(scorer, shot, seen) | _nearness(scorer, shot, seen)
        if others:
            found["spread"] = float(np.mean([1 - seen @ other for other in others]))
        return found or Skipped("a model without text says nothing of one picture alone")

    return Metric(
        name, VERSION, model_metrics.MAIN[0], model_metrics.VALUES, measure, of_case=True, tools=lambda: scorer.identity
    )


def _fit(scorer: Scorer, shot: GalleryPicture, seen: Features) -> Values:
    if not scorer.reads_text or shot.question.case.task != "t2i":
        return {}
    cosine = float(seen @ scorer.text_features([shot.question.case.prompt])[0])
    return {"similarity": cosine, "logit": scorer.logit(cosine)}


def _nearness(scorer: Scorer, shot: GalleryPicture, seen: Features) -> Values:
    known = {"to_source": shot.source, "to_target": shot.target if shot.question.case.task == "edit" else None}
    return {name: float(seen @ scorer.features([image])[0]) for name, image in known.items() if image is not None}


def lpips_metric(lpips: Lpips, name: str) -> Metric:
    """LPIPS (Zhang et al. 2018) as a metric."""

    def measure(shot: GalleryPicture) -> Values | Skipped:
        pixels = shot.pixels
        if isinstance(pixels, Skipped):
            return pixels
        picture = Image.fromarray(pixels)
        target = shot.target if shot.question.case.task == "edit" else None
        known = {"far_from_target": target, "far_from_source": shot.source}
        found = {key: lpips.distance(picture, image) for key, image in known.items() if image is not None}
        others = [Image.fromarray(other.pixels) for other in shot.siblings if not isinstance(other.pixels, Skipped)]
        if others:
            found["far_from_seeds"] = float(np.mean([lpips.distance(picture, other) for other in others]))
        return found or Skipped("one picture alone is far from nothing")

    return Metric(
        name, VERSION, "far_from_target", model_metrics.VALUES, measure, of_case=True, tools=lambda: lpips.identity
    )
