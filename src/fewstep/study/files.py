"""The files that a study reads besides its recipes: cases and LoRAs, as digests.

A recipe names files, and a file can change between two cells. Then the cells would differ in more than the axis.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from fewstep.backbones.families import adapter_path
from fewstep.data.case_sources import names_case_source
from fewstep.data.sources import paths_of
from fewstep.run.recipe import Recipe

WHOLE = 2**30  # bytes: larger files are identified by size and time of change, because reading them takes minutes


def digests(recipes: Iterable[Recipe]) -> Mapping[str, str]:
    """By source, as the recipes name it. Cases of a source with a scheme follow from its text and have no digest.

    Raises:
        CaseError: a pattern that matches no file.
        ModelError: no embedded LoRA of that name.
    """
    found: dict[str, str] = {}
    for recipe in recipes:
        for source in (one.source for of_task in (recipe.data.t2i, recipe.data.edit) for one in of_task):
            if source not in found and not names_case_source(source):
                found[source] = _digest(paths_of(source))
        for spec in recipe.teachers.named.values():
            if spec.adapter is not None and spec.adapter not in found:
                found[spec.adapter] = _digest([adapter_path(spec.adapter)])
    return found


def _digest(paths: Iterable[Path]) -> str:
    """A digest of the files there. A folder's files count with their names. Missing files are refused by the code that
    reads them."""
    h = hashlib.blake2b(digest_size=8)
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                h.update(repr((file.relative_to(path).as_posix(), file.stat().st_size)).encode())
                h.update(_content(file))
    return h.hexdigest()


def _content(file: Path) -> bytes:
    stat = file.stat()
    if stat.st_size > WHOLE:
        return str(stat.st_mtime_ns).encode()
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "blake2b").digest()
