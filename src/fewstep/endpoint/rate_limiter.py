"""How many tries run at once, and when the next may begin.

The server's "too many" (429) halves the number in flight, once for each burst. Each answer adds 1/limit, so the
declared concurrency returns after about as many answers as calls were lost. If the server states a time (Retry-After),
nothing is sent before it.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class RateLimiter:
    def __init__(self, most: int, per_minute: float | None = None):
        self._most = most
        self._limit = float(most)
        self._gap = 60 / per_minute if per_minute else 0.0
        self._running = 0
        self._open_at = 0.0
        self._cut_at = 0.0
        self._changed = asyncio.Condition()

    @property
    def limit(self) -> int:
        """Tries that may run at once now."""
        return int(self._limit)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[float]:
        """Waits for a free place and yields the start time of the try (monotonic seconds)."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._running < self.limit)
            self._running += 1
        try:
            yield await self._start()
        finally:
            async with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def throttled(self, began: float, pause: float) -> None:
        """The try that began then was refused with "too many"; nothing begins for `pause` seconds."""
        now = time.monotonic()
        self._open_at = max(self._open_at, now + pause)
        if began >= self._cut_at:
            self._limit, self._cut_at = max(1.0, self._limit / 2), now

    def succeeded(self) -> None:
        """A try was answered."""
        self._limit = min(self._most, self._limit + 1 / self._limit)

    async def _start(self) -> float:
        """Nothing else runs between the last look at the clock and the start, so two tries never share a gap."""
        while (now := time.monotonic()) < self._open_at:
            await asyncio.sleep(self._open_at - now)
        self._open_at = now + self._gap
        return now
