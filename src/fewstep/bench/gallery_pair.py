"""Two galleries that are compared pair by pair: of one suite, and under two names."""

from pathlib import Path

from fewstep.bench.gallery import Gallery
from fewstep.bench.pair_verdict import folder_name
from fewstep.bench.suite import Suite
from fewstep.bench.suites import suite_of
from fewstep.runtime.errors import GalleryError


def common_suite(a: Path, b: Path) -> Suite:
    """The suite that both galleries answer.

    Raises:
        GalleryError: they answer two. SuiteError: as `suite_of`.
    """
    one, other = suite_of(a), suite_of(b)
    if one.hash != other.hash:
        raise GalleryError(
            f"{a} answers suite {one.name} ({one.hash}) and {b} {other.name} ({other.hash}); "
            "only answers to one suite can be compared"
        )
    return one


def system_names(galleries: tuple[Gallery, Gallery]) -> tuple[str, str]:
    """The names of the two systems: as their galleries state, or those of their folders if both state the same.

    Raises:
        GalleryError: those are the same too.
    """
    said = [str(gallery.heading["system"]) for gallery in galleries]
    names = said if said[0] != said[1] else [gallery.folder.resolve().name for gallery in galleries]
    if folder_name(names[0]) == folder_name(names[1]):
        raise GalleryError(f"both galleries are called {names[0]}; rename one of the folders to tell them apart")
    return names[0], names[1]
