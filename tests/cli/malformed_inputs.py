"""So many malformed inputs of all kinds, the same ones for each seed."""

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.cli import malformed_arguments, malformed_files, malformed_recipes
from tests.cli.attempts import Attempt

Maker = Callable[[random.Random, Path], Attempt]
MAKERS: dict[str, Sequence[Maker]] = {
    "recipe": malformed_recipes.MAKERS,
    "arguments": malformed_arguments.MAKERS,
    **malformed_files.MAKERS,
}
SHARES = {"recipe": 32, "cases": 30, "lora": 10, "model": 8, "gallery": 10, "arguments": 10}  # of a hundred


def inputs(seed: int, count: int, folder: Path, kinds: Sequence[str] = tuple(SHARES)) -> Iterator[tuple[Attempt, Path]]:
    """Attempts with the folder that each is to be made in, below `folder`."""
    total = sum(SHARES[kind] for kind in kinds)
    for kind in kinds:
        for number in range(round(count * SHARES[kind] / total)):
            rng = random.Random(f"{seed} {kind} {number}")
            place = folder / f"{kind}-{number}"
            place.mkdir(parents=True)
            yield rng.choice(list(MAKERS[kind]))(rng, place), place
