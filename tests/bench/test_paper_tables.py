"""The rank rule reproduces the paper: every printed average to 0.005, every printed rank exactly."""

import pytest

from fewstep.bench import ranks
from tests.bench.paper_tables import EDIT_COLUMNS, MISPRINTS, T2I_COLUMNS, TABLES, Line

HALF_A_DIGIT = 0.005 + 1e-9


def table_of(lines: tuple[Line, ...]) -> ranks.CategoryMeans:
    columns = T2I_COLUMNS if len(lines[0].a) == 3 else EDIT_COLUMNS
    return {
        line.system: {judge: dict(zip(columns, cells, strict=True)) for judge, cells in (("A", line.a), ("B", line.b))}
        for line in lines
    }


def test_every_row_of_the_paper_is_here() -> None:
    assert sum(len(lines) for lines in TABLES.values()) == 18


@pytest.mark.parametrize("table", TABLES)
def test_averages_as_printed(table: str) -> None:
    found = ranks.averages(table_of(TABLES[table]))
    for line in TABLES[table]:
        for judge, printed in zip("AB", line.averages, strict=True):
            as_printed, as_it_is = MISPRINTS.get((line.system, judge), (printed, printed))
            assert printed == as_printed
            assert found[line.system][judge] == pytest.approx(as_it_is, abs=HALF_A_DIGIT), line.system


def test_the_misprint_is_one() -> None:
    for (system, judge), (printed, real) in MISPRINTS.items():
        for table in ("2", "4"):
            found = ranks.averages(table_of(TABLES[table]))[system][judge]
            assert abs(found - printed) > HALF_A_DIGIT
            assert round(found, 2) == real


@pytest.mark.parametrize("table", TABLES)
def test_ranks_as_printed(table: str) -> None:
    assert ranks.ranks(table_of(TABLES[table])) == {line.system: line.rank for line in TABLES[table]}


def test_rounding_the_averages_first_would_not_do() -> None:
    """Table 4: 5:5 beats 7:3 by 0.005 in the mean; the rule needs unrounded averages and both judges."""
    points = ranks.paper_rule(table_of(TABLES["4"]))
    assert 0 < points["5:5"] - points["7:3"] < 0.01


def test_other_rules_need_not_agree() -> None:
    """What a sensitivity check is for: at least one of the paper's tables is ordered differently by another rule."""
    found = {(t, rule): ranks.ranks(table_of(TABLES[t]), of) for t in TABLES for rule, of in ranks.RULES.items()}
    assert any(found[t, rule] != found[t, "paper"] for t, rule in found)
    assert all(min(order.values()) == 1 for order in found.values())
