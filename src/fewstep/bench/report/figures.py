"""The metrics of a suite: a mean for each system, and what is paired with the reference picture by picture."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import floor, log10

from fewstep.bench import statistics
from fewstep.bench.gallery import Key
from fewstep.bench.report.groups import Group
from fewstep.bench.report.parts import Cell, Line, Table
from fewstep.bench.report.systems import System
from fewstep.bench.report.written import CERTAIN, difference, estimated

HOW_MEASURED = (
    f"Means with {CERTAIN} intervals that draw whole cases anew. Differences are taken on the same case and seed, and "
    "marked where the interval is clear of zero. What a metric skipped is not in its mean."
)


def metric_table(group: Group, key: str) -> Table | None:
    """A line for each value of each metric; None where no system has any."""
    lines = tuple(line for metric, name in _values(group) for line in [_line(group, metric, name)])
    lines += tuple(_latency(group))
    if not lines:
        return None
    versus = [f"{system.name} minus {group.reference.name}" for system in group.systems[1:]]
    columns = (*(system.name for system in group.systems), *versus)
    at = {len(group.systems) + i: 0.0 for i in range(len(versus))}
    return Table(key, group.name.name, columns, lines, first="figure", at=at)


def skipped_table(group: Group, key: str) -> Table | None:
    """How often each metric passed over a picture, and why; None where none did."""
    lines = [
        Line(system.name, (Cell(f"{count:,}"), Cell(f"{len(measured):,}"), Cell(why)), group=metric.replace("_", " "))
        for metric in _metrics(group)
        for system in group.systems
        for measured in [system.measured.get(metric, ())]
        for why, count in Counter(m.skipped for m in measured if m.skipped).most_common(3)
    ]
    columns = ("skipped", "of", "why")
    return Table(key, "What the metrics skipped", columns, tuple(lines), folded=True) if lines else None


def _metrics(group: Group) -> list[str]:
    return list(dict.fromkeys(metric for system in group.systems for metric in system.measured))


def _values(group: Group) -> Iterator[tuple[str, str]]:
    for metric in _metrics(group):
        for name in dict.fromkeys(name for system in group.systems for name in system.values.get(metric, {})):
            yield metric, name


def _line(group: Group, metric: str, name: str) -> Line:
    values = [system.values.get(metric, {}).get(name, {}) for system in group.systems]
    return _compared(name.replace("_", " "), values, metric.replace("_", " "))


def _compared(name: str, values: Sequence[Mapping[Key, float]], group: str, note: str = "") -> Line:
    """values: one mapping a system, the reference's first."""
    digits = _digits([x for of in values for x in of.values()])
    means = [statistics.mean(list(of.values()), [case for case, _ in of]) for of in values]
    cells = [estimated(mean, digits=digits) for mean in means]
    cells += [difference(_paired(of, values[0]), digits) for of in values[1:]]
    counts = sorted({mean.n for mean in means})
    told = f"n = {counts[0]:,}" + (f" to {counts[-1]:,}" if len(counts) > 1 else "")
    return Line(name, tuple(cells), ", ".join(part for part in (note, told) if part), group)


def _paired(of: Mapping[Key, float], reference: Mapping[Key, float]) -> statistics.Estimate:
    keys = [key for key in of if key in reference]
    return statistics.difference([of[k] for k in keys], [reference[k] for k in keys], [case for case, _ in keys])


def _digits(values: Sequence[float]) -> int:
    """Decimals that leave three figures of a typical value."""
    typical = sorted(abs(x) for x in values)[len(values) // 2] if values else 0.0
    return min(4, max(0, 2 - floor(log10(typical)))) if typical > 0 else 2


def _latency(group: Group) -> Iterator[Line]:
    """Seconds and network calls as the manifests have them."""
    for name, note in (("seconds", "a picture, all stages"), ("nfe", "network evaluations a picture")):
        values = [_of_manifest(system, name) for system in group.systems]
        if any(values):
            yield _compared({"seconds": "seconds", "nfe": "NFE"}[name], values, "cost of drawing", note)


def _of_manifest(system: System, name: str) -> dict[Key, float]:
    found = {}
    for key, record in system.records.items():
        value = record.get(name)
        if isinstance(value, dict):
            known = [part for part in value.values() if isinstance(part, int | float)]
            value = sum(known) if known else None
        if isinstance(value, int | float):
            found[key] = float(value)
    return found
