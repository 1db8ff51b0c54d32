"""The budget, kept while calls run at once.

A call begins only if three sums together fit the budget: what is spent, what the calls in flight may cost, and what
this one may cost. A call may cost as much as the dearest answer so far; this also holds for calls that began before
that answer came. Before the first answer an estimate is used.
"""

import asyncio

from fewstep.runtime.errors import BudgetSpent


class SpendingBudget:
    def __init__(self, budget: float | None, spent: float = 0.0):
        self.budget = budget
        self.spent = spent
        self.dearest = 0.0
        self._held: list[float] = []
        self._changed = asyncio.Condition()

    async def reserve(self, estimate: float) -> float:
        """Reserves what one call may cost, and returns that estimate for `settle`. Waits for calls in flight if only
        they stand in the way.

        Raises:
            BudgetSpent: nothing is in flight and it still does not fit.
        """
        async with self._changed:
            while not self._fits(need := self.dearest or estimate):
                if not self._held:
                    raise BudgetSpent(
                        f"the budget of {self.budget:g} is spent: {self.spent:.4f} is gone, and one more call may cost "
                        f"{need:.4f}. Raise budget to go on; what was answered is kept"
                    )
                await self._changed.wait()
            self._held.append(estimate)
            return estimate

    async def settle(self, estimate: float, cost: float | None) -> None:
        """Ends a call with this estimate and this cost (None: unknown, or nothing)."""
        async with self._changed:
            self._held.remove(estimate)
            self.spent += cost or 0.0
            self.dearest = max(self.dearest, cost or 0.0)
            self._changed.notify_all()

    def _fits(self, need: float) -> bool:
        held = self.dearest * len(self._held) if self.dearest else sum(self._held)
        return self.budget is None or self.spent + held + need <= self.budget + 1e-12
