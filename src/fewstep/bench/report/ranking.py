"""Who is better: the rank table, what other rules would say, and the categories under each judge."""

from collections.abc import Iterator, Mapping, Sequence

from fewstep.bench.comparison import Comparison, compare
from fewstep.bench.coverage import Coverage
from fewstep.bench.report.parts import Cell, Line, Table
from fewstep.bench.report.systems import Group, System
from fewstep.bench.report.written import CERTAIN, between, difference, estimated
from fewstep.bench.resampling import Record, Scores
from fewstep.bench.standings import Standing, standings
from fewstep.bench.statistics import Estimate


def scores_of(group: Group) -> Scores:
    """A record for every picture asked for, under every judge that any system was shown to: None where no score is."""
    return {system.name: {judge: _cells(system, group, judge) for judge in group.judges} for system in group.systems}


def _cells(system: System, group: Group, judge: str) -> Mapping[str, list[Record]]:
    found: dict[str, list[Record]] = {category: [] for category in group.categories}
    known = system.scores.get(judge, {})
    for (case, seed), record in group.keys.items():
        found[str(record.get("category", ""))].append((case, seed, known.get((case, seed))))
    return found


def against_reference(group: Group) -> dict[str, Comparison]:
    """Each other system minus the reference, on the pictures and judges that both have scores of."""
    scores = scores_of(group)
    found = {}
    for system in group.systems[1:]:
        judges = [j for j in group.judges if system.scores.get(j) and group.reference.scores.get(j)]
        sides = [{judge: scores[name][judge] for judge in judges} for name in (system.name, group.reference.name)]
        if judges:
            found[system.name] = compare(*sides)
    return found


def rank_table(group: Group, found: Sequence[Standing], gaps: Mapping[str, Comparison], key: str, title: str) -> Table:
    judges = group.judges
    columns = ("rank", "band", "mean of the judges" if len(judges) > 1 else judges[0])
    columns += (*(judges if len(judges) > 1 else ()), f"minus {group.reference.name}", "first in", "scored")
    lines = tuple(_rank_line(standing, group, gaps.get(standing.system)) for standing in found)
    at = {2: next(s.overall.value for s in found if s.system == group.reference.name)}
    at = {column: value for column, value in at.items() if value is not None} | {columns.index("first in") - 1: 0.0}
    return Table(key, title, columns, lines, _rank_note(group, found), at=at)


def _rank_line(standing: Standing, group: Group, gap: Comparison | None) -> Line:
    judges = group.judges
    reference = standing.system == group.reference.name
    cells = [
        Cell("–" if standing.rank is None else str(standing.rank), standing.why and f"withheld: {standing.why}" or ""),
        Cell("–" if standing.band is None else str(standing.band)),
        estimated(standing.overall, whisker=True),
        *(estimated(standing.judges[judge]) for judge in (judges if len(judges) > 1 else ())),
        Cell("reference") if reference else difference(gap.overall if gap else None),
        Cell(f"{100 * standing.p_rank[0]:.0f} %" if standing.p_rank and standing.p_rank[0] == standing.p_rank[0] else "–"),
        _scored(standing.coverage),
    ]
    return Line(standing.system, tuple(cells), strong=standing.rank == 1)


def _scored(coverage: Mapping[str, Coverage]) -> Cell:
    """The least covered judge speaks for the system."""
    worst = min(coverage.values(), key=lambda each: each.share)
    bounds = "" if worst.scored == worst.asked or worst.worst is None else f"bounds {worst.worst:.2f} to {worst.best:.2f}"
    return Cell(f"{100 * worst.share:.1f} %", bounds)


def _rank_note(group: Group, found: Sequence[Standing]) -> str:
    said = [
        "An average is the plain mean of category means; the rank is by the mean of the judges' averages, unrounded.",
        f"Intervals hold with {CERTAIN}: whole cases are drawn anew within categories, all systems together.",
        "Systems of one band are not told apart from its first. “First in” is the share of such drawings that a system "
        "wins. The dotted line is the reference's mean, and zero in the differences, which are taken picture by picture.",
    ]
    if any(standing.rank is None for standing in found):
        said.append("A rank is withheld under 99 % of scores: a judge that refuses the worst pictures flatters. The "
                    "bounds are the means if every missing score were 1 or 5.")
    return " ".join(said)


def rules_table(found: Sequence[Standing], key: str) -> Table | None:
    """Ranks under other rules; None where there is nothing to order."""
    ranked = [standing for standing in found if standing.rank is not None]
    if len(ranked) < 2:
        return None
    rules = list(ranked[0].other_rules)
    lines = tuple(
        Line(s.system, (Cell(str(s.rank)), *(Cell(str(s.other_rules[rule]), mark=s.other_rules[rule] != s.rank) for rule in rules)))
        for s in ranked
    )
    note = "How much the order owes to the rule: a rank that differs is marked."
    return Table(key, "Other rank rules", ("by the rule above", *rules), lines, note, folded=True)


def heat_tables(group: Group, found: Sequence[Standing], suffix: str) -> Iterator[Table]:
    """Systems by categories under each judge, tinted from the lowest to the highest cell of the table."""
    for judge in group.judges:
        shown = [s for s in found if s.coverage[judge].scored]
        values = [e.value for s in shown for e in s.cells[judge].values() if e.value is not None]
        if values:
            low, high = min(values), max(values)
            lines = tuple(_heat_line(s, judge, tuple(group.categories), (low, high)) for s in _in_order(shown, group))
            columns = (*group.categories, "average")
            note = f"Means of the scores of {judge} with {CERTAIN} intervals; darker is better, within this table."
            yield Table(f"heat{suffix}-{group.judges.index(judge)}", f"{judge}", columns, lines, note, heat=True)


def _in_order(found: Sequence[Standing], group: Group) -> list[Standing]:
    order = [system.name for system in group.systems]
    return sorted(found, key=lambda s: order.index(s.system))


def _heat_line(standing: Standing, judge: str, categories: Sequence[str], span: tuple[float, float]) -> Line:
    cells = [_tinted(standing.cells[judge][category], *span) for category in categories]
    return Line(standing.system, (*cells, estimated(standing.judges[judge])))


def _tinted(estimate: Estimate, low: float, high: float) -> Cell:
    if estimate.value is None:
        return Cell("–")
    shade = (estimate.value - low) / (high - low) if high > low else 0.5
    return Cell(f"{estimate.value:.2f}", between(estimate), shade=shade)
