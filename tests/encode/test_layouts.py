"""What is said of a run's layouts, against the batches that the run will have."""

import pytest

from fewstep.data.composition import Composition
from fewstep.data.mixture import Ratio
from fewstep.data.order import BatchOrder
from fewstep.data.streams import by_source
from fewstep.encode.layouts import count_layouts
from tests.data.plain_order import unchanging
from tests.data.test_shared_batches import cases_of, width


def composition(sizes: list[int]) -> Composition:
    return unchanging(Ratio(1, 0), {"t2i": by_source("t2i", [cases_of(sizes)], [1])})


@pytest.mark.parametrize(("sizes", "batch"), [([2, 3, 5, 1, 4, 6, 90], 4), ([1] * 30, 8), ([9, 7, 8, 6], 6)])
def test_shared_batches_have_about_as_many_parts_as_was_said(sizes: list[int], batch: int) -> None:
    held = composition(sizes)
    told = count_layouts(held, "t2i", width, batch)
    order = BatchOrder(held, width, batch, 0)
    kinds = [{width(case) for case in order.cases(i)[1]} for i in range(3000)]
    shared = [len(found) for found in kinds if found <= order.sharing["t2i"]]
    assert told.sharing == sum(count for kind, count in enumerate(sizes, 1) if kind in order.sharing["t2i"])
    assert told.parts == pytest.approx(sum(shared) / len(shared), rel=0.03)
    assert f"each in about {told.parts:.2g} parts" in str(told.words())


def test_nothing_is_said_of_parts_where_nobody_shares() -> None:
    told = count_layouts(composition([60, 60]), "t2i", width, 4)
    assert told.sharing == told.parts == 0
    assert "parts" not in str(told.words())
