"""What `fewstep plan` prints. Without torch: an answer that was kept is printed as one that was just counted."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, ValidationError
from rich.console import Console
from rich.table import Table

from fewstep.run.budget.kept_answers import keep_answer, read_answer


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ToldTable(_Told):
    """A table, cells in rich's markup.

    Args:
        columns: headings.
        left: the numbers of the columns of words; others hold figures, which stand to the right.
        last_apart: whether a line is drawn above the last row.
    """

    title: str
    columns: list[str]
    left: list[int]
    rows: list[list[str]]
    last_apart: bool = False


class ToldPlan(_Told):
    """All that is said of a plan, whatever the terminal.

    Args:
        tables, lines: for people, in rich's markup.
        json_text: for other programs.
        fits: whether it fits the GPU that was named; None if none was.
        counted: when, in ISO 8601 and local time.
    """

    tables: list[ToldTable]
    lines: list[str]
    json_text: str
    fits: bool | None
    counted: str


def kept_plan(key: str) -> ToldPlan | None:
    """What was told under this key; None if nothing was, or if it cannot be read."""
    text = read_answer(key)
    try:
        return None if text is None else ToldPlan.model_validate_json(text)
    except ValidationError:
        return None


def keep_plan(key: str, told: ToldPlan) -> None:
    """Keeps it for `kept_plan`, if the cache can be written."""
    keep_answer(key, told.model_dump_json())


def print_plan(told: ToldPlan, in_json: bool, console: Console) -> None:
    """In tables and lines, or for other programs."""
    if in_json:
        console.print(told.json_text, highlight=False, markup=False, soft_wrap=True)
        return
    console.print(*map(_table, told.tables))
    for line in told.lines:
        console.print(line, highlight=False, soft_wrap=True)


def kept_words(told: ToldPlan) -> str:
    """What is said of an answer that was kept."""
    when = datetime.fromisoformat(told.counted).strftime("%Y-%m-%d %H:%M")
    return f"counted on {when}, and nothing that it follows from has changed; --anew counts it again"


def _table(told: ToldTable) -> Table:
    table = Table(title=told.title)
    for number, heading in enumerate(told.columns):
        table.add_column(heading, justify="left" if number in told.left else "right")
    for number, row in enumerate(told.rows):
        if told.last_apart and number == len(told.rows) - 1:
            table.add_section()
        table.add_row(*row)
    return table
