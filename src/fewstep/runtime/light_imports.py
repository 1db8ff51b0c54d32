"""Imports torch, diffusers, transformers and peft in less time, in a process that will only use their model classes.

Four things take almost half of that time and nothing needs them there. Python's collector visits the millions of
objects that imports make, again and again, and finds no garbage. diffusers and transformers import scipy where it is
installed, for schedulers and losses of detectors that fewstep has no use for. diffusers lists every file of every
installed package, to look up three packages that are seldom there. And transformers reads the sources of all its
models twice: what it remembers of them, by folder, is limited to fewer folders than it has.
"""

import functools
import gc
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from typing import Any

UNUSED = ("scipy",)  # by what a plan runs: libraries import it only if it can be found
LIBRARIES = ("torch", "diffusers", "transformers")


@contextmanager
def light_imports() -> Iterator[None]:
    """Inside, the collector rests, `UNUSED` cannot be found, installed packages are listed when somebody looks into
    the list, and caches whose size nobody named are unlimited. What was imported is then left out of later
    collections. Does nothing in a process that has imported the libraries already.

    Afterwards `UNUSED` can be imported again. Libraries that were imported inside stay without it, as they would be
    where it is not installed: use it only in a process that ends with what it was begun for.
    """
    if any(name in sys.modules for name in (*UNUSED, *LIBRARIES)):
        yield
        return
    collecting, listing, caching = gc.isenabled(), metadata.packages_distributions, functools.lru_cache
    gc.disable()
    for name in UNUSED:
        sys.modules[name] = None  # type: ignore[assignment]  # means to Python's import: not there
    metadata.packages_distributions = lambda: LateMapping(listing)  # type: ignore[assignment, return-value]
    functools.lru_cache = _unlimited  # type: ignore[assignment]
    try:
        yield
    finally:
        metadata.packages_distributions, functools.lru_cache = listing, caching
        for name in UNUSED:
            del sys.modules[name]
        gc.freeze()
        if collecting:
            gc.enable()


class LateMapping(Mapping[str, Any]):
    """A mapping that is made when somebody looks into it."""

    def __init__(self, make: Callable[[], Mapping[str, Any]]) -> None:
        self._made = functools.cache(make)

    def __getitem__(self, key: str) -> Any:
        return self._made()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made())

    def __len__(self) -> int:
        return len(self._made())


def _unlimited(maxsize: Any = 128, typed: bool = False, limited: Any = functools.lru_cache) -> Any:
    """`functools.lru_cache`, without a limit where it decorates without one being named."""
    return functools.cache(maxsize) if callable(maxsize) else limited(maxsize, typed)
