"""The content of a report: its sections, built from the galleries of each suite, and its first sentence."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fewstep import __version__
from fewstep.bench.comparison import LEAST_CASES, Comparison, Shade
from fewstep.bench.leaderboard import LeaderboardEntry, leaderboard
from fewstep.bench.report.cells import CERTAIN, signed
from fewstep.bench.report.duels import HOW_DUELS, duel_tables
from fewstep.bench.report.groups import (
    GalleryGroup,
    missing_notes,
    names_of,
)
from fewstep.bench.report.judge_tables import (
    HOW_AGREED,
    agreement_table,
    fact_sheets,
    failure_table,
    judging_cost,
)
from fewstep.bench.report.metric_tables import (
    HOW_MEASURED,
    drawing_cost,
    metric_tables,
)
from fewstep.bench.report.page import (
    BenchReport,
    FactSheet,
    ReportSection,
)
from fewstep.bench.report.ranking import (
    against_reference,
    category_gaps,
    chances_table,
    heat_tables,
    how_ranked,
    rank_table,
    rules_table,
    scores_of,
)
from fewstep.bench.report.tables import Table

PHRASES: dict[Shade, str] = {
    "better": "is better than",
    "worse": "is worse than",
    "undecided": "is not told apart from",
    "equal": "is as good as",
    "not worse": "is not inferior to",
    "not better": "is not superior to",
}


@dataclass(frozen=True)
class RankedSuite:
    """One suite's ranks. found and gaps are empty if no judge has seen any picture."""

    group: GalleryGroup
    found: Sequence[LeaderboardEntry]
    gaps: dict[str, Comparison]

    @classmethod
    def of(cls, group: GalleryGroup, margin: float) -> "RankedSuite":
        if not group.judges:
            return cls(group, [], {})
        return cls(group, leaderboard(scores_of(group)), against_reference(group, margin))


def page_of(groups: Sequence[GalleryGroup], margin: float) -> BenchReport:
    """margin: a difference of scores below it does not matter."""
    judged = [RankedSuite.of(group, margin) for group in groups]
    failed, costs = failure_table(groups), tuple(t for t in (drawing_cost(groups), judging_cost(groups)) if t)
    duels = tuple(table for group in groups for table in duel_tables(group, _key("pairs", group, groups)))
    measured, agreements = tuple(_metrics(groups)), tuple(_agreement(groups))
    sections = (
        ReportSection("ranks", "Ranks", tuple(_ranks(judged)), how_ranked([s for each in judged for s in each.found])),
        ReportSection("categories", "Categories", tuple(_categories(judged))),
        ReportSection("pairs", "Pairs", duels, HOW_DUELS if duels else ""),
        ReportSection("metrics", "Metrics", measured, HOW_MEASURED if measured else ""),
        ReportSection("judges", "Judges' agreement", agreements, HOW_AGREED if agreements else ""),
        ReportSection("failures", "Failures", (failed,) if failed else (), "" if failed else "None."),
        ReportSection("cost", "Cost", costs),
    )
    names = names_of(groups)
    this = (("Made by", f"fewstep {__version__}"), ("Reference", names[0]), ("Margin", f"{margin:g}"))
    told = (FactSheet("This report", this), *fact_sheets(groups))
    title = f"{', '.join(names[1:])} against {names[0]}" if len(names) > 1 else names[0]
    return BenchReport(title, " ".join(_summary(judged)), tuple(missing_notes(groups)), sections, told, len(groups))


def _summary(judged: Sequence[RankedSuite]) -> Iterator[str]:
    if not any(each.found for each in judged):
        yield "No judge has seen these pictures yet: here are the pictures and what was measured."
    for each in judged:
        told = [_sentence(name, gap, each.group) for name, gap in each.gaps.items() if gap.asked]
        if told:
            yield f"On {each.group.name}, {'; '.join(told)}."


def _sentence(name: str, gap: Comparison, group: GalleryGroup) -> str:
    if gap.empty:
        return f"nothing follows for {name}: some judge has no pair of {', '.join(gap.empty)}"
    if not gap.enough:
        return f"nothing follows for {name}: {gap.pairs:,} of {gap.asked:,} pairs have both scores"
    value, low, high = gap.overall.value, gap.overall.low, gap.overall.high
    assert value is not None, "every category has pairs"
    said = [
        signed(value),
        "no interval" if low is None or high is None else f"{CERTAIN}: {signed(low)} to {signed(high)}",
    ]
    if gap.margin:
        said.append(f"margin {gap.margin:g}")
    if gap.too_few:
        said.append(f"{gap.overall.clusters:,} cases; a conclusion needs {LEAST_CASES}")
    elif gap.shade == "undecided" and gap.needed is not None:
        said.append(f"about {gap.needed:,} cases would tell {'the margin' if gap.margin else 'so small a difference'}")
    return f"{name} {PHRASES[gap.shade]} {group.reference.name} ({'; '.join(said)})"


def _key(name: str, group: GalleryGroup, judged: Sequence[object]) -> str:
    return name if len(judged) == 1 else f"{name}-{group.name}"


def _ranks(judged: Sequence[RankedSuite]) -> Iterator[Table]:
    for each in judged:
        if each.found:
            yield rank_table(each.group, each.found, each.gaps, _key("ranks", each.group, judged))
            chances = chances_table(each.found, _key("chances", each.group, judged))
            other = rules_table(each.found, _key("rules", each.group, judged))
            yield from (table for table in (chances, other) if table)


def _categories(judged: Sequence[RankedSuite]) -> Iterator[Table]:
    for each in judged:
        yield from heat_tables(each.group, each.found, _key("categories", each.group, judged))
        gaps = category_gaps(each.group, each.gaps, _key("gaps", each.group, judged))
        if gaps:
            yield gaps


def _metrics(groups: Sequence[GalleryGroup]) -> Iterator[Table]:
    for group in groups:
        yield from metric_tables(group, _key("metrics", group, groups))


def _agreement(groups: Sequence[GalleryGroup]) -> Iterator[Table]:
    for group in groups:
        if len(group.judges) > 1:
            yield agreement_table(group, scores_of(group), _key("agreement", group, groups))
