"""A table as text for a paper or a discussion: Markdown and LaTeX (booktabs)."""

from fewstep.bench.report.tables import (
    Cell,
    ReportRow,
    Table,
)

_LATEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"−": "$-$", "±": r"$\pm$", "×": r"$\times$", "–": "--", "α": r"$\alpha$", "τ": r"$\tau$", "≥": r"$\geq$"},
}


def markdown(table: Table) -> str:
    """A pipe table. The name of a system or judge cannot break out of its cell."""
    rows = [_row([table.first, *table.columns]), _row(["---", *["---:"] * len(table.columns)])]
    rows += [_row([_named(line), *(_whole(cell) for cell in line.cells)]) for line in table.lines]
    note = f"\n{table.note}\n" if table.note else ""
    return f"**{table.title}**\n\n" + "\n".join(rows) + "\n" + note


def latex(table: Table) -> str:
    """A tabular of the booktabs package, with its caption."""
    head = " & ".join(escaped(text) for text in (table.first, *table.columns))
    body = [" & ".join(escaped(t) for t in (_named(line), *map(_whole, line.cells))) + r" \\" for line in table.lines]
    return "\n".join(
        [
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{escaped(f'{table.title}. {table.note}'.strip())}}}",
            rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
            r"\toprule",
            head + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def escaped(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("\\", r"\\").replace("|", r"\|") for cell in cells) + " |"


def _named(line: ReportRow) -> str:
    return f"{line.group}: {line.name}" if line.group else line.name


def _whole(cell: Cell) -> str:
    return f"{cell.text} ({cell.under})" if cell.under else cell.text
