"""A study file: cells that differ along one axis, seeds, an equal budget, one examination for all.

worlds      where it can be run: a base recipe each, and its changes for all cells alike axis        the recipe keys
that cells may differ in; a difference in anything else is refused cells       name -> what it sets on the axis protocol
how every cell is examined tables      which of the paper's tables the rows correspond to figures     which grids of
pictures are made
"""

import re
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from rapidfuzz import fuzz, process

from fewstep.runtime import strict_yaml
from fewstep.runtime.errors import StudyError
from fewstep.runtime.key_help import (
    NEAR,
    key_notes,
    refusals,
)
from fewstep.runtime.section import Section
from fewstep.runtime.task import Task
from fewstep.study import paper

BASE = "base"
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}"
NO_AXIS = ("name", "store", "run", "model", "size")  # budget and base are the same in all cells


class BudgetPlan(Section):
    """What every cell may spend."""

    iterations: int = Field(gt=0, description="student updates of every cell (paper: 2,000)")
    batch: int = Field(gt=0, description="samples in an update")


class WorldPlan(Section):
    """One model and its data that the study can be run on."""

    recipe: str = Field(min_length=1, description="a shipped recipe, or a file beside the study's")
    budget: BudgetPlan = Field(description="equal in all cells")
    set: dict[str, Any] = Field({}, description="dotted recipe keys and values, for all cells alike")
    teachers: tuple[str, ...] = Field((), description="teachers that are examined too: base, or one of teachers.named")
    before: str | None = Field(None, description="a command that makes the LoRAs it needs; told where one is missing")


class CellPlan(Section):
    """One row of the study."""

    label: str | None = Field(None, description="what tables call it; left out: its name")
    set: dict[str, Any] = Field({}, description="dotted recipe keys on the axis, and values")


class ProtocolPlan(Section):
    """The examination, the same for all cells and teachers: same cases, same noise."""

    cases: int = Field(gt=0, description="held-out cases of each category")
    tasks: tuple[Task, ...] = Field(("t2i", "edit"), min_length=1, description="tasks that are examined")
    seed: int = Field(1, ge=0, description="the held-out cases are a pure function of it")
    moments: tuple[float, ...] = Field(
        (), description="shares of the iterations after which every cell is examined too, beside its end"
    )
    mean_of_last: int = Field(
        1, gt=0, description="moments, the end among them, whose mean is a run's score: one checkpoint is a draw"
    )
    teacher_steps: int | None = Field(None, gt=0, description="sampler steps of the teachers; null: the family's own")

    @field_validator("moments")
    @classmethod
    def _shares(cls, moments: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < share < 1 for share in moments) or list(moments) != sorted(set(moments)):
            raise ValueError(f"protocol.moments rise strictly between 0 and 1, not {list(moments)}; 1 is always there")
        return moments

    @model_validator(mode="after")
    def _enough_moments(self) -> "ProtocolPlan":
        if self.mean_of_last > len(self.moments) + 1:
            raise ValueError(
                f"protocol.mean_of_last is {self.mean_of_last}, and a run is examined {len(self.moments) + 1} times; "
                "name more protocol.moments"
            )
        return self

    def described(self) -> dict[str, Any]:
        """As it identifies a study; keys that came later are left out while they change nothing."""
        found = self.model_dump(mode="json")
        if self.mean_of_last == 1:
            del found["mean_of_last"]
        return found

    def iterations_of(self, iterations: int) -> tuple[int, ...]:
        """The iterations after which a cell is examined, with the last one. None is below 1, and none comes twice."""
        return tuple(sorted({max(1, round(share * iterations)) for share in (*self.moments, 1.0)}))


class PremiseSide(Section):
    """Rows and categories whose mean score is meant."""

    rows: tuple[str, ...] = Field(min_length=1, description="cells, CELL@SHARE or teacher:NAME")
    categories: tuple[str, ...] | None = Field(None, min_length=1, description="null: all of the task's")


class PremisePlan(Section):
    """What must be so for a conclusion to be on trial: the level of `higher`, or its difference to `lower`."""

    says: str = Field(min_length=1, description="in a sentence")
    task: Task = Field(description="whose scores")
    higher: PremiseSide = Field(description="what is to score more")
    lower: PremiseSide | None = Field(None, description="than this; null: the level of `higher` itself is meant")
    at_least: float | None = Field(None, description="the least that it must be; or else")
    at_most: float | None = Field(None, description="the most that it may be")
    takeaways: tuple[int, ...] = Field((), description="whose verdict needs it; none named: all of the study's")

    @model_validator(mode="after")
    def _one_bound(self) -> "PremisePlan":
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("a premise has either at_least or at_most")
        return self


class PowerPlan(Section):
    """What a study is to decide; the number of runs follows (docs/studies.md)."""

    smallest: float = Field(gt=0, description="smallest difference of scores that is to be told from none")
    spread: float = Field(
        gt=0, description="standard deviation, over seeds, of a difference between two cells: measured, with its source"
    )


class TablePlan(Section):
    """A table of results, and where the paper has one of its shape."""

    task: Task = Field(description="whose categories are the columns")
    paper: int | None = Field(default=None, description="number of the paper's table")
    title: str = Field(description="what it shows")
    rows: dict[str, str | None] = Field(
        description="cell, or teacher as teacher:NAME (teacher:specialised: each category by its specialist) -> "
        "the paper's row, or null"
    )


class FigurePlan(Section):
    """A grid of pictures. kind grid: prompts down, systems across; moments: one cell's iterations across."""

    name: str = Field(pattern=NAME, description="of its file")
    title: str = Field(description="what it shows")
    kind: Literal["grid", "moments"] = Field(description="what its columns are")
    task: Task = Field(description="which cases")
    each: int = Field(2, gt=0, description="cases of each category")
    cells: tuple[str, ...] = Field((), description="cells shown; left out: all")


class StudyPlan(Section):
    """A whole study."""

    name: str = Field(pattern=f"^{NAME}$", description="names the study's folder")
    question: str = Field(description="what it asks, in a sentence")
    worlds: dict[str, WorldPlan] = Field(min_length=1, description="where it can be run")
    axis: tuple[str, ...] = Field(min_length=1, description="recipe keys, or sections, that cells may differ in")
    cells: dict[str, CellPlan] = Field(min_length=2, description="at least two")
    seeds: tuple[int, ...] = Field((0, 1), min_length=1, description="run.seed of the runs of each cell")
    power: PowerPlan | None = Field(None, description="decides the number of runs of a cell; null: as many as seeds")
    premises: dict[str, PremisePlan] = Field({}, description="what must be so, declared before the first run")
    protocol: ProtocolPlan = Field(description="the examination")
    baseline: str | None = Field(
        None, description="a cell, or teacher:NAME: the row that the report subtracts from all others, pair by pair"
    )
    tables: tuple[TablePlan, ...] = Field((), description="left out: one of each task")
    figures: tuple[FigurePlan, ...] = Field((), description="grids of pictures")

    @field_validator("cells")
    @classmethod
    def _folder_names(cls, cells: dict[str, CellPlan]) -> dict[str, CellPlan]:
        for name in cells:
            if not re.fullmatch(NAME, name):
                raise ValueError(f"cells.{name} names a folder: use letters, digits, . _ and -, and a label for tables")
        return cells

    @field_validator("cells")
    @classmethod
    def _told_apart(cls, cells: dict[str, CellPlan]) -> dict[str, CellPlan]:
        seen: dict[str, str] = {}
        for name, cell in cells.items():
            same = seen.setdefault(cell.label or name, name)
            if same != name:
                raise ValueError(
                    f"cells.{same} and cells.{name} are both called {cell.label or name}; tables need two names"
                )
        return cells

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds name {list(seeds)}: one of them twice; a run is made once")
        return seeds

    @field_validator("axis")
    @classmethod
    def _no_budget(cls, axis: tuple[str, ...]) -> tuple[str, ...]:
        for key in axis:
            if key.split(".")[0] in NO_AXIS:
                raise ValueError(f"axis {key}: {', '.join(NO_AXIS)} are equal in all cells and can be no axis")
        return axis

    @model_validator(mode="after")
    def _known_names(self) -> "StudyPlan":
        for table in self.tables:
            self._known([row for row in table.rows if not row.startswith("teacher:")], f"tables.{table.title}")
            _refuse_unprinted(table)
        for figure in self.figures:
            self._known(figure.cells, f"figures.{figure.name}")
            if figure.kind == "moments" and not self.protocol.moments:
                raise ValueError(f"figures.{figure.name} shows moments, but protocol.moments names none")
        return self

    @model_validator(mode="after")
    def _known_premises(self) -> "StudyPlan":
        for name, premise in self.premises.items():
            where = f"premises.{name}"
            if premise.task not in self.protocol.tasks:
                raise ValueError(f"{where}: task {premise.task} is not examined; protocol.tasks has what is")
            for side in (premise.higher, premise.lower):
                for row in side.rows if side is not None else ():
                    self._known_row(row, where)
        return self

    @model_validator(mode="after")
    def _known_baseline(self) -> "StudyPlan":
        if self.baseline is not None:
            if "@" in self.baseline:
                raise ValueError(f"baseline names {self.baseline}, a moment of a run; name a cell, or teacher:NAME")
            self._known_row(self.baseline, "baseline")
        return self

    def _known_row(self, row: str, where: str) -> None:
        """CELL, CELL@SHARE of a moment, or teacher:NAME of a world. Others would never be examined."""
        if row.startswith("teacher:"):
            teachers = dict.fromkeys(name for one in self.worlds.values() for name in one.teachers)
            teachers |= {"specialised": None} if {*teachers} - {BASE} else {}
            if row.removeprefix("teacher:") not in teachers:
                raise ValueError(f"{where} names {row}, which is not under teachers of a world: {', '.join(teachers)}")
            return
        cell, at, share = row.partition("@")
        self._known([cell], where)
        told = ", ".join(f"{moment:g}" for moment in (*self.protocol.moments, 1.0))
        if at and share not in told.split(", "):
            raise ValueError(f"{where} names {row}, and no run is examined there: a share is one of {told}")

    def _known(self, names: Any, where: str) -> None:
        for name in names:
            if name not in self.cells:
                raise ValueError(f"{where} names {name}, which is no cell; cells are: {', '.join(self.cells)}")

    def label(self, cell: str) -> str:
        return self.cells[cell].label or cell


def _refuse_unprinted(table: TablePlan) -> None:
    """A table refers to a row or table that the paper does not have."""
    printed = paper.tables().get(table.paper) if table.paper is not None else None
    if table.paper is not None and (printed is None or printed.task != table.task):
        numbers = ", ".join(f"{number} ({t.task})" for number, t in paper.tables().items())
        raise ValueError(f"tables.{table.title}: paper is {table.paper} for {table.task}; the paper has {numbers}")
    strange = [row for row in table.rows.values() if row is not None and (printed is None or row not in printed.rows)]
    if strange:
        known = "none without a number under paper" if printed is None else ", ".join(printed.rows)
        raise ValueError(f"tables.{table.title}: {strange[0]} is no row of the paper's; it has {known}")


def load_study(name: str) -> tuple[StudyPlan, Path | None]:
    """A shipped study or a file's, and the file's folder, where its recipes are looked for.

    Raises:
        StudyError: one line for each thing that is wrong.
    """
    text, where = _text(name)
    raw = strict_yaml.load_yaml(text, name)
    if not isinstance(raw, dict):
        raise StudyError(f"{name}: holds no keys; see docs/studies.md for what a study file says")
    return validate_study(raw, name), where


def validate_study(raw: dict[str, Any], where: str) -> StudyPlan:
    """The study that these keys declare.

    Raises:
        StudyError: as `load_study`.
    """
    try:
        return StudyPlan.model_validate(raw)
    except ValidationError as error:
        lines = refusals(error, raw, key_notes(StudyPlan), "a study file")
        raise StudyError("\n".join(f"{where}: {line}" for line in lines)) from error


def shipped_studies() -> list[str]:
    """The names of the studies that come with the package."""
    return sorted(file.name.removesuffix(".yaml") for file in _folder().iterdir() if file.name.endswith(".yaml"))


def _folder() -> Any:
    return resources.files("fewstep") / "study" / "studies"


def _text(name: str) -> tuple[str, Path | None]:
    if name in shipped_studies():
        return (_folder() / f"{name}.yaml").read_text(encoding="utf-8"), None
    path = Path(name)
    if not path.is_file():
        near = process.extractOne(name, shipped_studies(), scorer=fuzz.ratio, score_cutoff=NEAR)
        meant = f"did you mean {near[0]}?" if near else f"shipped are: {', '.join(shipped_studies())}"
        raise StudyError(f"{name} is no file and no shipped study; {meant}")
    try:
        return path.read_text(encoding="utf-8-sig"), path.parent
    except (UnicodeDecodeError, OSError) as error:
        raise StudyError(f"{name}: cannot be read as UTF-8 ({error})") from error
