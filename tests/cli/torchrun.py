"""The command as torchrun starts it: a process for each rank, with its environment variables."""

import socket
from collections.abc import Callable
from pathlib import Path

from tests.cli.processes import Command


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def started(file: str, run: Path, world: int, first: Callable[[int], object] = lambda rank: None) -> list[Command]:
    """`fewstep distill` of a recipe file on so many ranks; on one without torchrun.

    Args:
        first: what each does before, by its number.
    """
    if world == 1:
        return [Command(run.parent / "log-0", "distill", file, "--out", run)]
    torchrun = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [
        Command(
            run.parent / f"log-{rank}", "distill", file, "--out", run,
            environment=torchrun | {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(world)},
            first=lambda rank=rank: first(rank),  # type: ignore[misc]
        )
        for rank in range(world)
    ]  # fmt: skip
