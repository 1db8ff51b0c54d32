"""Imports torch, diffusers, transformers and peft in less time, in a process that will only use their model classes.

Two things take a third of that time and nothing needs them there. Python's collector visits the millions of objects
that imports make, again and again, and finds no garbage. And diffusers and transformers import scipy where it is
installed, for schedulers and losses of detectors that fewstep has no use for.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

UNUSED = ("scipy",)  # by what a plan runs: libraries import it only if it can be found
LIBRARIES = ("torch", "diffusers", "transformers")


@contextmanager
def light_imports() -> Iterator[None]:
    """Inside, the collector rests and `UNUSED` cannot be found; what was imported is then left out of later
    collections. Does nothing in a process that has imported the libraries already.

    Afterwards `UNUSED` can be imported again. Libraries that were imported inside stay without it, as they would be
    where it is not installed: use it only in a process that ends with what it was begun for.
    """
    if any(name in sys.modules for name in (*UNUSED, *LIBRARIES)):
        yield
        return
    collecting = gc.isenabled()
    gc.disable()
    for name in UNUSED:
        sys.modules[name] = None  # type: ignore[assignment]  # means to Python's import: not there
    try:
        yield
    finally:
        for name in UNUSED:
            del sys.modules[name]
        gc.freeze()
        if collecting:
            gc.enable()
