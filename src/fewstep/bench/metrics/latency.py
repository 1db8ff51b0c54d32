"""The cost of a picture, from the manifest: seconds, network evaluations, memory. Compare only within one machine."""

from collections.abc import Sequence

import numpy as np

from fewstep.bench.metrics.measurements import Measurement
from fewstep.bench.metrics.metric import (
    GalleryPicture,
    Metric,
    Skipped,
    Values,
    ValueSpec,
)

PARTS = ("encode", "denoise", "decode")


def measure(shot: GalleryPicture) -> Values | Skipped:
    """seconds is the sum of its parts; nfe: network evaluations a picture, both branches of guidance counted."""
    told = {**(shot.row.get("seconds") or {}), "nfe": shot.row.get("nfe"), "peak_mb": shot.row.get("peak_mb")}
    found = {name: float(value) for name, value in told.items() if isinstance(value, int | float)}
    parts = [found[part] for part in PARTS if part in found]
    if parts:
        found["seconds"] = sum(parts)
    found = {name: found[name] for name in METRIC.values if name in found}
    return found or Skipped("the manifest says nothing of time; pictures made elsewhere have none")


def latency_summary(records: Sequence[Measurement]) -> dict[str, float]:
    """median and p90 of the seconds per picture, and pictures per second at their mean; empty if no time is known."""
    seconds = [record.values["seconds"] for record in records if "seconds" in record.values]
    if not seconds or not sum(seconds):
        return {}
    return {
        "median_s": float(np.median(seconds)),
        "p90_s": float(np.quantile(seconds, 0.9)),
        "pictures_a_second": len(seconds) / sum(seconds),
    }


_SECONDS = ValueSpec("s", "lower", "ratio")
METRIC = Metric(
    name="latency",
    version="1",
    main="seconds",
    values={
        "seconds": _SECONDS,
        "encode": _SECONDS,
        "denoise": _SECONDS,
        "decode": _SECONDS,
        "nfe": ValueSpec("network evaluations", "lower", "ratio"),
        "peak_mb": ValueSpec("MB", "lower", "ratio"),
    },
    measure=measure,
)
