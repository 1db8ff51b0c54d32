"""What a run records of its cases (cases.json), and how it knows them again.

identity   a hash of the cases and of their keys in the store, in which their sizes are
cases      their number by task
sizes      `data.sizes`, for messages; runs of earlier versions have none, and trained edits at `size`
order      the order of batches (`data/order.py`); not written where all orders are one
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fewstep.run.recipe import Recipe, flat_keys

BEFORE_SIZES = {"data.sizes.t2i": [], "data.sizes.edit": "recipe"}  # what runs without a record of it did


@dataclass(frozen=True)
class CasesPin:
    """The cases of a run.

    Args:
        identity, counts, order: of its loader.
        sizes: the keys that decide sizes, and their values.
    """

    identity: str
    counts: Mapping[str, int]
    order: int
    sizes: Mapping[str, Any]

    @classmethod
    def of(cls, recipe: Recipe, identity: str, counts: Mapping[str, int], order: int) -> "CasesPin":
        return cls(identity, counts, order, flat_keys({"data": {"sizes": recipe.resolved()["data"]["sizes"]}}))

    def record(self) -> dict[str, Any]:
        """As JSON types."""
        found: dict[str, Any] = {"identity": self.identity, "cases": dict(sorted(self.counts.items()))}
        return found | {"sizes": dict(self.sizes)} | ({"order": self.order} if self.order > 1 else {})

    def fault(self, held: Mapping[str, Any]) -> str | None:
        """Why a run with this record cannot go on with these cases, with what to put back; None if it can."""
        if held["identity"] != self.identity:
            sizes = held.get("sizes", BEFORE_SIZES)
            changed = [f"{key}: {sizes.get(key)} -> {now}" for key, now in self.sizes.items() if sizes.get(key) != now]
            counts = f"{_counted(held['cases'])}; now {_counted(self.counts)}"
            if changed and held["cases"] == dict(self.counts):
                return f"began with its cases at other sizes ({'; '.join(changed)}): take that back"
            also = f", and {'; '.join(changed)}" if changed else ""
            return f"began with other cases ({counts}{also}): put them back"
        if held.get("order", 1) != self.order:
            return (
                "began under an earlier version, which made batches of cases of several shapes in another order: go on "
                "with that version"
            )
        return None


def _counted(cases: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {task}" for task, count in sorted(cases.items()))
