"""Who is better: the rank table, the ranks under other rules, and the categories under each judge."""

from collections.abc import Iterator, Mapping, Sequence
from math import isnan

from fewstep.bench.comparison import Comparison, compare
from fewstep.bench.coverage import ENOUGH, Coverage
from fewstep.bench.leaderboard import LeaderboardEntry
from fewstep.bench.report.cells import (
    CERTAIN,
    difference_cell,
    estimate_cell,
    interval_range,
)
from fewstep.bench.report.groups import GalleryGroup
from fewstep.bench.report.systems import System
from fewstep.bench.report.tables import (
    Cell,
    ReportRow,
    Table,
)
from fewstep.bench.resampling import ScoreRecord, Scores
from fewstep.bench.statistics import Estimate


def scores_of(group: GalleryGroup) -> Scores:
    """A record for every picture asked for, under every judge that scored any system; None if there is no score."""
    return {system.name: {judge: _cells(system, group, judge) for judge in group.judges} for system in group.systems}


def _cells(system: System, group: GalleryGroup, judge: str) -> Mapping[str, list[ScoreRecord]]:
    found: dict[str, list[ScoreRecord]] = {category: [] for category in group.categories}
    known = system.scores.get(judge, {})
    for (case, seed), record in group.keys.items():
        found[str(record.get("category", ""))].append((case, seed, known.get((case, seed))))
    return found


def against_reference(group: GalleryGroup, margin: float) -> dict[str, Comparison]:
    """Each other system minus the reference, on the pictures and judges that both have scores of."""
    scores = scores_of(group)
    found = {}
    for system in group.systems[1:]:
        judges = [j for j in group.judges if system.scores.get(j) and group.reference.scores.get(j)]
        ours, theirs = ({j: scores[name][j] for j in judges} for name in (system.name, group.reference.name))
        if judges:
            found[system.name] = compare(ours, theirs, margin)
    return found


def rank_table(
    group: GalleryGroup, found: Sequence[LeaderboardEntry], gaps: Mapping[str, Comparison], key: str
) -> Table:
    judges = group.judges if len(group.judges) > 1 else ()
    columns = ("rank", "mean of the judges" if judges else group.judges[0], *judges)
    columns += (f"minus {group.reference.name}", "P(first)", "scored")
    mean = next(standing.overall.value for standing in found if standing.system == group.reference.name)
    lines = tuple(_rank_line(standing, group, gaps.get(standing.system), judges, mean) for standing in found)
    return Table(key, group.name, columns, lines)


def _rank_line(
    standing: LeaderboardEntry, group: GalleryGroup, gap: Comparison | None, judges: Sequence[str], mean: float | None
) -> ReportRow:
    """mean: the reference's, which the whiskers are compared with."""
    first = standing.p_rank[0] if standing.p_rank else None
    cells = [
        Cell("withheld" if standing.rank is None else str(standing.rank)),
        estimate_cell(standing.overall, whisker=True, at=mean),
        *(estimate_cell(standing.judges[judge]) for judge in judges),
        Cell("reference") if standing.system == group.reference.name else _minus(gap),
        Cell("–" if first is None or isnan(first) else f"{100 * first:.0f} %"),
        _scored(standing.coverage),
    ]
    note = f"band {standing.band}" if standing.why is None else standing.why
    return ReportRow(standing.system, tuple(cells), note, strong=standing.rank == 1, band=standing.band)


def _minus(gap: Comparison | None) -> Cell:
    """Empty if too little is scored for a difference to mean anything."""
    return difference_cell(gap.overall if gap is not None and gap.enough else None)


def _scored(coverage: Mapping[str, Coverage]) -> Cell:
    """The coverage of the judge that scored the least."""
    least = min(coverage.values(), key=lambda each: each.share)
    whole = least.scored == least.asked or least.worst is None
    return Cell(f"{100 * least.share:.1f} %", "" if whole else f"{least.worst:.2f} to {least.best:.2f}")


def how_ranked(found: Sequence[LeaderboardEntry]) -> str:
    """How to read the tables below; empty if there is none."""
    if not found:
        return ""
    said = [
        "An average is the plain mean of category means; ranks are by the mean of the judges' averages, unrounded. "
        f"Intervals hold with {CERTAIN}: whole cases are drawn anew within categories, for all systems together. "
        "Systems of one band are not told apart from the best of it. P(first) is the share of drawings in which a "
        "system is first. Differences are taken picture by picture; the dotted line is the reference."
    ]
    if any(standing.rank is None for standing in found):
        said.append(
            f"A rank is withheld under {100 * ENOUGH:.0f} % of scores, because a judge that refuses the worst pictures "
            "flatters; beside the share stands what the mean would be if every missing score were a 1 or a 5."
        )
    return " ".join(said)


def rules_table(found: Sequence[LeaderboardEntry], key: str) -> Table | None:
    """Ranks under other rules; None if there is nothing to order."""
    ranked = [standing for standing in found if standing.rank is not None]
    if len(ranked) < 2:
        return None
    rules = list(ranked[0].other_rules)
    lines = tuple(_rules_line(standing, rules) for standing in ranked)
    note = "How much the order owes to the rule: a rank that differs is marked."
    return Table(key, "Other rank rules", ("by the rule above", *rules), lines, note, folded=True)


def chances_table(found: Sequence[LeaderboardEntry], key: str) -> Table | None:
    """P(rank) of each system; None if nothing could be resampled."""
    ranked = [s for s in found if s.p_rank and not isnan(s.p_rank[0])]
    if len(ranked) < 2:
        return None
    columns = tuple(f"rank {place + 1}" for place in range(len(ranked)))
    lines = tuple(ReportRow(s.system, tuple(Cell(f"{100 * p:.1f} %", shade=p) for p in s.p_rank)) for s in ranked)
    note = "In how many of the drawings a system has a rank."
    return Table(key, "Chances of each rank", columns, lines, note, folded=True, heat=True)


def _rules_line(standing: LeaderboardEntry, rules: Sequence[str]) -> ReportRow:
    others = [standing.other_rules[rule] for rule in rules]
    cells = (Cell(str(rank), mark="apart" if rank != standing.rank else "") for rank in others)
    return ReportRow(standing.system, (Cell(str(standing.rank)), *cells))


def heat_tables(group: GalleryGroup, found: Sequence[LeaderboardEntry], key: str) -> Iterator[Table]:
    """Systems by categories under each judge, tinted from the lowest to the highest cell of the table."""
    for judge in group.judges:
        shown = [standing for standing in found if standing.coverage[judge].scored]
        values = [e.value for standing in shown for e in standing.cells[judge].values() if e.value is not None]
        if values:
            span = min(values), max(values)
            lines = tuple(_heat_line(standing, judge, tuple(group.categories), span) for standing in shown)
            note = f"Means of its scores with {CERTAIN} intervals; a stronger tint is better, within this table."
            title = f"{group.name}, judged by {judge}"
            yield Table(f"{key}-{judge}", title, (*group.categories, "average"), lines, note, heat=True)


def _heat_line(
    standing: LeaderboardEntry, judge: str, categories: Sequence[str], span: tuple[float, float]
) -> ReportRow:
    cells = [_tinted(standing.cells[judge][category], *span) for category in categories]
    return ReportRow(standing.system, (*cells, estimate_cell(standing.judges[judge])))


def _tinted(estimate: Estimate, low: float, high: float) -> Cell:
    if estimate.value is None:
        return Cell("–")
    shade = (estimate.value - low) / (high - low) if high > low else 0.5
    return Cell(f"{estimate.value:.2f}", interval_range(estimate), shade=shade)


def category_gaps(group: GalleryGroup, gaps: Mapping[str, Comparison], key: str) -> Table | None:
    """Where each system gains and loses against the reference, judges averaged."""
    lines = tuple(
        ReportRow(name, tuple(difference_cell(gap.categories.get(category)) for category in group.categories))
        for name, gap in gaps.items()
        if gap.enough
    )
    note = "Picture by picture, the mean over judges; marked where the interval is clear of zero."
    title = f"{group.name}, minus {group.reference.name}"
    return Table(key, title, tuple(group.categories), lines, note, common=True) if lines else None
