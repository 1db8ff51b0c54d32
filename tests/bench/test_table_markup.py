"""Tables of the report as Markdown and LaTeX: no text breaks out of its cell."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from fewstep.bench.report.table_markup import (
    escaped,
    latex,
    markdown,
)
from fewstep.bench.report.tables import (
    Cell,
    ReportRow,
    Table,
)

TEXT = st.text("\\|&%$#_{}~^−α \nab", max_size=12) | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=100)
@given(st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=4))
def test_no_text_breaks_out_of_its_cell(rows: list[tuple[str, str, str]]) -> None:
    lines = tuple(ReportRow(name, (Cell(text, under),)) for name, text, under in rows)
    table = Table("key", "Title", ("a column",), lines)
    piped = [line for line in markdown(table).splitlines() if line.startswith("|")]
    assert len(piped) == 2 + len(rows)
    assert all(len(re.findall(r"(?<!\\)\|", line.replace(r"\\", ""))) == 3 for line in piped)
    body = latex(table).split("\\midrule\n")[1].split("\n\\bottomrule")[0].split("\n")
    assert len(body) == len(rows)
    assert all(len(re.findall(r"(?<!\\)&", line.replace(r"\textbackslash{}", ""))) == 1 for line in body)


@settings(max_examples=100)
@given(TEXT)
def test_latex_has_no_unescaped_special(text: str) -> None:
    plain = re.sub(r"\\text\w+\{\}|\\[&%$#_{}]|\$-\$|\$\\\w+\$", "", escaped(text))
    assert not set(plain) & set("&%$#_{}~^\\")
