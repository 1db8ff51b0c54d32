"""A study's results in words and table cells. Markdown and HTML are made of these alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

INTERVALS = (
    "Intervals are 95 %, and resample runs and cases, each whole; differences are taken between the same run seed and "
    "the same case. Averages are plain means of the categories; ranks follow the paper's rule, the mean of the judges' "
    "averages."
)
SCORES = {  # by the judge that reads an embedded world
    "probe": "Scores are 1 + 4 x the share that is right, as the probe reads it (docs/studies.md says what counts). ",
    "reader": "Scores are 1 + 4 x the mean of two shares, what was asked and how well it is drawn, as the reader of "
    "the harder world reads them (docs/harder-world.md). ",
}


def about_scores(found: Mapping[str, Any]) -> str:
    """What a score is, for the judges that this study has, and what intervals are."""
    judges = found["judges"] or ["probe"]
    return "".join(words for judge, words in SCORES.items() if judge in judges) + INTERVALS


@dataclass(frozen=True)
class TextRow:
    """A table's row: ours, or (printed) the paper's below it."""

    name: str
    cells: tuple[tuple[str, str], ...]  # text, and the small text below it
    printed: bool = False


def heading(found: Mapping[str, Any]) -> str:
    return f"Study: {found['study']}"


def setting(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a reader must know before the figures."""
    protocol = found["protocol"]
    return [
        ("Question", found["question"]),
        ("World", found["world"]),
        ("Budget of every cell", f"{found['iterations']:,} student updates of {found['batch']} samples"),
        ("Runs of a cell", f"{len(found['seeds'])}, seeds {', '.join(map(str, found['seeds']))}"),
        ("Examined on", f"{protocol['cases']} held-out cases a category ({', '.join(protocol['tasks'])}), the same "
         f"cases and noise for all rows, from seed {protocol['seed']}"),
        *_score_of(protocol),
        ("Judges", ", ".join(found["judges"]) or "none yet"),
    ]  # fmt: skip


def _score_of(protocol: Mapping[str, Any]) -> list[tuple[str, str]]:
    last = protocol.get("mean_of_last", 1)
    return [("A run's score", f"the mean of its last {last} examinations")] if last > 1 else []


def warnings(found: Mapping[str, Any]) -> list[str]:
    told = []
    if len(found["seeds"]) == 1:
        told.append("One run a cell: intervals cover cases only, and say nothing about another run.")
    if found["missing"]:
        told.append(f"Not examined yet: {', '.join(found['missing'])}.")
    for short in found["short"]:
        told.append(
            f"Left out: judge {short['judge']} scored {short['scored']:,} of {short['asked']:,} pictures of "
            f"{short['gallery']}; what it has not may be the worst. Let it judge them all."
        )
    return told


def table_title(table: Mapping[str, Any]) -> str:
    return table["title"] if table["paper"] is None else f"Table {table['paper']}: {table['title']}"


def table_columns(table: Mapping[str, Any]) -> list[str]:
    return [*table["columns"], "average", "rank"]


def table_lines(table: Mapping[str, Any]) -> list[TextRow]:
    """A line for each row and judge, each followed by the paper's if it has one."""
    lines = []
    for row in table["rows"]:
        judges = row["judges"] or {"": {}}
        for judge, told in judges.items():
            name = row["label"] if len(judges) == 1 else f"{row['label']} ({judge})"
            cells = [cell(told.get(column)) for column in (*table["columns"], "average")]
            lines.append(TextRow(name, (*cells, (_rank(row["rank"]), ""))))
        if row["paper"] is not None:
            lines.append(_printed(row["paper"], table["columns"]))
    return lines


def _printed(printed: Mapping[str, Any], columns: Sequence[str]) -> TextRow:
    pairs = [printed["cells"].get(column) for column in (*columns, "average")]
    cells = [(" / ".join(f"{value:.2f}" for value in pair) if pair else "-", "") for pair in pairs]
    return TextRow("in the paper, judges A / B", (*cells, (_rank(printed["rank"]), "")), printed=True)


def _rank(rank: int | None) -> str:
    return "" if rank is None else str(rank)


def cell(told: Mapping[str, Any] | None) -> tuple[str, str]:
    """A value, and its interval below it."""
    if told is None:
        return "-", ""
    return f"{told['value']:.2f}", interval_text(told, "{:.2f}")


def interval_text(told: Mapping[str, Any], form: str) -> str:
    return "" if told["low"] is None else f"{form.format(told['low'])} to {form.format(told['high'])}"


TO_DECIDE = {"runs_to_decide": "runs of a cell", "cases_to_decide": "cases a category"}


def claim_words(claim: Mapping[str, Any]) -> str:
    """A claim's difference, its interval, every run's own, and the paper's."""
    found = claim["found"]
    if found is None:
        return str(claim["why"] or "no cases in common")
    wanted = "above 0" if claim["kind"] == "more" else f"above {-claim['margin']:g}"
    parts = [f"difference {found['value']:+.3f} ({interval_text(found, '{:+.3f}') or 'no interval'}), to be {wanted}"]
    if len(found["by_seed"]) > 1:
        parts.append("runs: " + ", ".join(f"{value:+.3f}" for value in found["by_seed"]))
    if claim["in_db"] is not None:
        told = claim["in_db"]
        parts.append(f"to the exact answer {told['value']:+.2f} dB ({interval_text(told, '{:+.2f}') or 'no interval'})")
    if claim["paper"] is not None:
        parts.append(f"in the paper {claim['paper']:+.3f}")
    # An undecided claim has either number, both, or neither.
    enough = [f"{claim[key]:,} {of}" for key, of in TO_DECIDE.items() if claim[key] is not None]
    if enough:
        parts.append(f"if it stays so, {' or '.join(enough)} would decide it")
    return "; ".join([*parts, *([claim["why"]] if claim["why"] else [])])


def premise_words(premise: Mapping[str, Any]) -> str:
    """A premise's figure with its interval, and what it had to be."""
    found, least = premise["found"], premise["at_least"]
    wanted = f"to be at most {premise['at_most']:g}" if least is None else f"to be at least {least:g}"
    if found is None:
        return f"not examined yet, {wanted}"
    return f"{found['value']:.3f} ({interval_text(found, '{:.3f}') or 'no interval'}), {wanted}"


MEASURE_NAMES = {
    "exact_psnr": "exact answer, dB",
    "preserved_psnr": "rest left alone, dB",
    "flat_noise": "noise on flat areas, 8-bit levels",
}


def measure_columns(measured: Mapping[str, Any]) -> list[str]:
    return [m for m in MEASURE_NAMES if any(m in told for told in measured["rows"].values())]


def task_words(task: str) -> str:
    return "text to image" if task == "t2i" else "edits"


ABOUT_DIFFERENCES = (
    "Each row less the baseline, for the same run seed and the same case. A star: the whole interval, and every run "
    "by itself, is on one side of 0. Of many differences some are so by chance."
)


def difference_title(told: Mapping[str, Any]) -> str:
    return f"Difference from {told['baseline']}, {task_words(told['task'])}"


def difference_columns(told: Mapping[str, Any]) -> list[str]:
    return [*told["columns"], "average", *(MEASURE_NAMES[name] for name in _difference_measures(told))]


def difference_lines(told: Mapping[str, Any]) -> list[TextRow]:
    """A line for each row: a difference, and its interval below it."""
    names = _difference_measures(told)
    return [
        TextRow(
            row["label"],
            (
                *(_difference(row["scores"].get(column)) for column in (*told["columns"], "average")),
                *(_difference(row["measures"].get(name)) for name in names),
            ),
        )
        for row in told["rows"]
    ]


def _difference_measures(told: Mapping[str, Any]) -> list[str]:
    return [name for name in MEASURE_NAMES if any(name in row["measures"] for row in told["rows"])]


def _difference(told: Mapping[str, Any] | None) -> tuple[str, str]:
    if told is None:
        return "-", ""
    return f"{told['value']:+.2f}{'*' if told['sure'] else ''}", interval_text(told, "{:+.2f}")
