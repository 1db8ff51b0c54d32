"""Concurrent work that starts an item only when a worker is free, so ten thousand pictures need not be in memory at
once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def bounded_map(items: Iterable[T], work: Callable[[T], Awaitable[object]], workers: int) -> None:
    """Runs `work` for every item, `workers` at once. After the first error no further item is started; calls in flight
    end, because they are paid for, and then that error is raised. Cancelling cancels all."""
    waiting = iter(items)
    first: list[Exception] = []

    async def worker() -> None:
        for item in waiting:
            if first:
                return
            try:
                await work(item)
            except Exception as error:
                first.append(error)
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(worker())
    if first:
        raise first[0]
