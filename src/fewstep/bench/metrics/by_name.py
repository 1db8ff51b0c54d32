"""The metrics by their names. Other packages can add theirs (docs/extending.md)."""

from collections.abc import Sequence

from rapidfuzz import process

from fewstep.bench.metrics import (
    diversity,
    flat_noise,
    latency,
    model_metrics,
    preserve,
    sanity,
    text,
    tone,
)
from fewstep.bench.metrics.metric import Metric, ValueSpec
from fewstep.runtime.errors import GalleryError
from fewstep.runtime.plugins import ExtensionPoint

UNKNOWN = ValueSpec("", None)  # of a metric that is not in this installation


def _problem(name: str, thing: object) -> str | None:
    if not isinstance(thing, Metric):
        return "is no Metric"
    return None if thing.name == name else f"calls itself {thing.name!r}"


METRICS: ExtensionPoint[Metric] = ExtensionPoint(
    "fewstep.metrics",
    "metric",
    _problem,
    {each.METRIC.name: each.METRIC for each in (sanity, flat_noise, text, preserve, diversity, tone, latency)},
)


def metrics_named(names: Sequence[str] | None) -> list[Metric]:
    """The metrics of these names; all if none are given.

    Raises:
        GalleryError: an unknown name. PluginError: another package's metric cannot be used.
    """
    return [_metric(name) for name in names or METRICS.names()]


def _metric(name: str) -> Metric:
    found = METRICS.find(name)
    if found is None:
        close = process.extractOne(name, METRICS.names(), score_cutoff=60)
        meant = f"did you mean {close[0]}? There" if close else "there"
        raise GalleryError(f"metric {name!r:.40} is not known; {meant} are {', '.join(METRICS.names())}")
    return found


def values_of(metric: str) -> dict[str, ValueSpec]:
    """The specification of each of the metric's values, by name and in its order; none if this installation does not
    have the metric."""
    found = METRICS.find(metric)
    return {} if found is None else dict(found.values)


def value_of(metric: str, name: str) -> ValueSpec:
    """The specification of one value: its unit, its better direction, and how systems are compared. A metric that is
    not known here may be a model's."""
    return (values_of(metric) or model_metrics.VALUES).get(name, UNKNOWN)


def mains_of(metric: str) -> tuple[str, ...]:
    """The values that may represent a metric, the best first."""
    found = METRICS.find(metric)
    return model_metrics.MAIN if found is None else (found.main,)
