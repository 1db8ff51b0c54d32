"""`fewstep bench report`: galleries in, one static folder out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track

from fewstep import durable
from fewstep.bench.report.figures import metric_table, skipped_table
from fewstep.bench.report.judging import cost, facts, failures
from fewstep.bench.report.page import OWN, Page, Section, write
from fewstep.bench.report.parts import Table
from fewstep.bench.report.pictures import Album, Keep
from fewstep.bench.report.ranking import against_reference, heat_tables, rank_table, rules_table, scores_of
from fewstep.bench.report.rows import Rows, measures_of
from fewstep.bench.report.systems import Group, Key, grouped, missing, open_system
from fewstep.bench.standings import standings
from fewstep.errors import GalleryError


def report(folders: Sequence[Path], to: Path, reference: str | None, keep: Keep, console: Console) -> Path:
    """The report's page.

    Raises:
        GalleryError: galleries that cannot be read or compared, or a folder that holds something else.
    """
    _refuse_foreign(to)
    groups = grouped([open_system(folder) for folder in folders], reference)
    page = _page(groups)
    durable.make_folder(to)
    album = Album(to, keep)
    album.make_folders()
    rows = Rows(_names(groups), measures_of(groups, lambda m, n: "lower"), album, _sources)
    asked = [(group, key, record) for group in groups for key, record in group.keys.items()]
    for group, key, record in track(asked, "pictures", console=console, disable=keep is Keep.NONE):
        rows.add(group, key, record)
    written = write(page, rows.data(), to)
    album.sweep()
    return written


def _refuse_foreign(to: Path) -> None:
    if to.exists() and not to.is_dir():
        raise GalleryError(f"{to} is a file; name a folder for the report")
    strange = sorted(path.name for path in to.iterdir() if path.name not in OWN) if to.is_dir() else []
    strange = [name for name in strange if not name.endswith(".tmp")]
    if strange:
        raise GalleryError(f"{to} holds other things ({', '.join(strange[:5])}); name a new folder for the report")


def _names(groups: Sequence[Group]) -> list[str]:
    return list(dict.fromkeys(system.name for group in groups for system in group.systems))


def _sources(group: Group, key: Key) -> Sequence[Path]:
    return ()


def _page(groups: Sequence[Group]) -> Page:
    names = _names(groups)
    failed, spent = failures(groups), cost(groups)
    parts = [_Part.of(group, i, len(groups)) for i, group in enumerate(groups)]
    sections = (
        Section("ranks", "Ranks", tuple(t for part in parts for t in part.ranks)),
        Section("categories", "Categories", tuple(t for part in parts for t in part.heat)),
        Section("metrics", "Metrics", tuple(t for part in parts for t in part.metrics)),
        Section("failures", "Failures", (failed,) if failed else (), "" if failed else "None."),
        Section("cost", "Cost", (spent,) if spent else ()),
    )
    return Page(
        " against ".join([", ".join(names[1:]), names[0]]) if len(names) > 1 else names[0],
        "",
        tuple(missing(groups)),
        sections,
        tuple(facts(groups)),
        "metrics",
        len(groups),
    )


@dataclass(frozen=True)
class _Part:
    """The tables of one suite."""

    ranks: tuple[Table, ...]
    heat: tuple[Table, ...]
    metrics: tuple[Table, ...]

    @classmethod
    def of(cls, group: Group, number: int, of: int) -> "_Part":
        suffix = f"-{number}" if of > 1 else ""
        found = standings(scores_of(group)) if group.judges else []
        gaps = against_reference(group) if found else {}
        ranks = [rank_table(group, found, gaps, f"ranks{suffix}", group.suite.name), rules_table(found, f"rules{suffix}")] if found else []
        metrics = [metric_table(group, f"metrics{suffix}", group.suite.name), skipped_table(group, f"skipped{suffix}")]
        return cls(
            tuple(table for table in ranks if table),
            tuple(heat_tables(group, found, suffix)),
            tuple(table for table in metrics if table),
        )
