"""The metrics of a suite: a mean for each system, and paired comparisons with the reference, picture by picture."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import floor, log10

from fewstep.bench import statistics
from fewstep.bench.gallery import PictureKey
from fewstep.bench.metrics import latency
from fewstep.bench.metrics.by_name import METRICS, mains_of, value_of, values_of
from fewstep.bench.metrics.metric import ValueSpec
from fewstep.bench.report.cells import (
    CERTAIN,
    difference_cell,
    estimate_cell,
    ratio_cell,
)
from fewstep.bench.report.groups import GalleryGroup
from fewstep.bench.report.tables import (
    Cell,
    ReportRow,
    Table,
)

HOW_MEASURED = (
    f"Means with {CERTAIN} intervals that draw whole cases anew. Differences and ratios (×) to the reference are taken "
    "on the same case and seed, and coloured where their interval is clear of equality. What a metric skipped is not "
    "in its mean."
)


def _mains(pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The value that represents each metric."""
    for metric in dict.fromkeys(metric for metric, _ in pairs):
        there = [name for of, name in pairs if of == metric]
        yield metric, next((name for name in mains_of(metric) if name in there), there[0])


def metric_tables(group: GalleryGroup, key: str) -> Iterator[Table]:
    """The main value of each metric, then all of them, then what was skipped."""
    pairs = list(_pairs(group))
    if pairs:
        main = list(_mains(pairs))
        columns = _columns(group)
        lines = tuple(_line(group, m, n, f"{m}: {n}") for m, n in main)
        yield Table(key, group.name, columns, lines, first="figure")
        if len(pairs) > len(main):
            lines = tuple(_line(group, m, n, n, m.replace("_", " ")) for m, n in pairs)
            yield Table(f"{key}-all", "All values of the metrics", columns, lines, first="figure", folded=True)
    yield from _skipped(group, f"{key}-skipped")


def _columns(group: GalleryGroup) -> tuple[str, ...]:
    versus = (f"{system.name} against {group.reference.name}" for system in group.systems[1:])
    return (*(system.name for system in group.systems), *versus)


def _skipped(group: GalleryGroup, key: str) -> Iterator[Table]:
    lines = [
        ReportRow(
            system.name, (Cell(f"{count:,}"), Cell(f"{len(measured):,}"), Cell(why)), group=metric.replace("_", " ")
        )
        for metric in _metrics(group)
        for system in group.systems
        for measured in [system.measured.get(metric, ())]
        for why, count in Counter(m.skipped for m in measured if m.skipped).most_common(3)
    ]
    if lines:
        yield Table(key, "What the metrics skipped", ("skipped", "of", "why"), tuple(lines), folded=True)


def _metrics(group: GalleryGroup) -> list[str]:
    """Known ones in their own order, others after them."""
    there = list(dict.fromkeys(metric for system in group.systems for metric in system.measured))
    known = METRICS.names()
    return [*(metric for metric in known if metric in there), *(metric for metric in there if metric not in known)]


def _pairs(group: GalleryGroup) -> Iterator[tuple[str, str]]:
    for metric in _metrics(group):
        there = dict.fromkeys(name for system in group.systems for name in system.values.get(metric, {}))
        known = values_of(metric)
        yield from ((metric, name) for name in known if name in there)
        yield from ((metric, name) for name in there if name not in known)


def _line(group: GalleryGroup, metric: str, name: str, title: str, heading: str = "") -> ReportRow:
    """One value of a metric: every system's mean, and the paired comparison with the reference."""
    value = value_of(metric, name)
    values = [system.values.get(metric, {}).get(name, {}) for system in group.systems]
    digits = _digits([x for of in values for x in of.values()])
    means = [statistics.mean(list(of.values()), [case for case, _ in of], bounds=value.bounds) for of in values]
    scale = f"{metric} {value.unit} {value.compared}"
    cells = [estimate_cell(mean, digits) for mean in means]
    cells += [_compared(of, values[0], value, digits, scale) for of in values[1:]]
    counts = sorted({mean.n for mean in means})
    n = f"n = {counts[0]:,}" + (f" to {counts[-1]:,}" if len(counts) > 1 else "")
    better = f"{value.better} is better" if value.better else ""
    note = ", ".join(part for part in (value.unit, better, n) if part)
    return ReportRow(title.replace("_", " "), tuple(cells), note, heading)


def _compared(
    of: Mapping[PictureKey, float], reference: Mapping[PictureKey, float], value: ValueSpec, digits: int, scale: str
) -> Cell:
    keys = [key for key in of if key in reference]
    ours, theirs, cases = [of[k] for k in keys], [reference[k] for k in keys], [case for case, _ in keys]
    if value.compared == "ratio":
        return ratio_cell(statistics.paired_ratio(ours, theirs, cases), value.better, scale)
    return difference_cell(statistics.paired_difference(ours, theirs, cases), digits, value.better, scale)


def _digits(values: Sequence[float]) -> int:
    """The decimals that leave three significant figures of a typical value."""
    typical = sorted(abs(x) for x in values)[len(values) // 2] if values else 0.0
    return min(4, max(0, 2 - floor(log10(typical)))) if typical > 0 else 2


def drawing_cost(groups: Sequence[GalleryGroup]) -> Table | None:
    """The cost of drawing a picture; None if no gallery states it."""
    lines = tuple(
        ReportRow(system.name, tuple(_cost(found)), group=group.name if len(groups) > 1 else "")
        for group in groups
        for system in group.systems
        if (found := latency.latency_summary(list(system.measured.get("latency", ()))))
    )
    columns = ("median, s a picture", "p90, s", "pictures a second")
    note = "As the galleries were drawn; to be compared only within one machine."
    return Table("drawing", "Cost of drawing", columns, lines, note) if lines else None


def _cost(found: Mapping[str, float]) -> Iterator[Cell]:
    yield from (Cell(f"{found[name]:.3g}") for name in ("median_s", "p90_s", "pictures_a_second"))
