"""Errors about a LoRA get the recipe's key that names it."""

from collections.abc import Iterator
from contextlib import contextmanager

from fewstep.runtime.errors import AdapterError, ModelError


@contextmanager
def naming(key: str, part: str = "") -> Iterator[None]:
    """Errors inside get the recipe's key in front, and at the end how to leave the key out."""
    where = f"{key}.{part}" if part else key
    try:
        yield
    except AdapterError as error:
        raise AdapterError(f"{where}: {error}. {key}: null takes it out of a recipe") from error
    except ModelError as error:
        raise ModelError(f"{where}: {error}. {key}: null takes it out of a recipe") from error
