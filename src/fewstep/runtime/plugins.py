"""Extension points: what other packages and programs add to fewstep, found by name.

A package offers a plug-in by an entry point; a program registers one (docs/extending.md). A plug-in is imported only
when it is looked up by name. One that cannot be used is refused in one line that names its distribution.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Generic, TypeVar

from fewstep.runtime.errors import PluginError

T = TypeVar("T")
PACKAGE = "fewstep"
PROJECT = Path(__file__).parents[3] / "pyproject.toml"  # there in a checkout alone


class ExtensionPoint(Generic[T]):
    """Plug-ins of one kind by name: fewstep's own, those registered in this process, and those of installed packages.

    Args:
        group: the group of entry points.
        kind: what messages call such a plug-in.
        problem: problem(name, thing) says why a thing is not of this kind; None if it is.
        own: fewstep's own.
    """

    def __init__(
        self,
        group: str,
        kind: str,
        problem: Callable[[str, object], str | None],
        own: Mapping[str, T] | None = None,
    ):
        self.group, self.kind = group, kind
        self._problem = problem
        self._own: Mapping[str, T] = {} if own is None else own
        self._registered: dict[str, T] = {}

    def register(self, name: str, thing: T) -> None:
        """Adds one for this process. Called at the top level of a program's main module, it works in worker processes
        too, because they import that module again.

        Raises:
            PluginError: it is not of this kind, or the name is taken.
        """
        if name in self.names():
            raise PluginError(f"{self.kind} '{name}' cannot be registered: there is one of this name; choose another")
        self._registered[name] = self._checked(name, thing, "registered by this program")

    def names(self) -> tuple[str, ...]:
        """All names, fewstep's own first. Nothing is loaded."""
        return tuple(dict.fromkeys((*self._own, *self._registered, *_offers(self.group))))

    def find(self, name: str) -> T | None:
        """The plug-in of a name; None if there is none.

        Raises:
            PluginError: there are two of that name, or it cannot be loaded or is not of this kind.
        """
        offered = _offers(self.group).get(name, ())
        origins = [PACKAGE] * (name in self._own) + ["this program"] * (name in self._registered)
        origins += [offer.origin for offer in offered]
        if len(origins) > 1:
            raise PluginError(
                f"{self.kind} '{name}' is offered by {' and by '.join(origins)}, and nothing says which is meant; "
                "uninstall or rename one of them"
            )
        return self._load(offered[0]) if offered else self._registered.get(name, self._own.get(name))

    def _load(self, offer: "_Offer") -> T:
        entry = offer.entry
        try:
            thing = entry.load()
        except Exception as error:  # whatever a foreign module does while it is imported
            raise PluginError(
                f"{self.kind} '{entry.name}' of {offer.origin} cannot be loaded from {entry.value} "
                f"({type(error).__name__}: {error}); mend or uninstall {offer.origin}"
            ) from error
        return self._checked(entry.name, thing, f"{entry.value}, of {offer.origin}")

    def _checked(self, name: str, thing: object, origin: str) -> T:
        problem = self._problem(name, thing)
        if problem is not None:
            raise PluginError(f"{self.kind} '{name}' ({origin}) {problem}; see docs/extending.md")
        return thing  # type: ignore[return-value]


@dataclass(frozen=True)
class _Offer:
    """An entry point, and the distribution that it belongs to."""

    entry: metadata.EntryPoint
    origin: str


@cache
def _offers(group: str) -> Mapping[str, tuple[_Offer, ...]]:
    """Entry points by name, in the order of declaration, read once. In a checkout those of pyproject.toml are used,
    because the metadata of an editable install is as old as the install."""
    own = _of_checkout(PROJECT)
    found: dict[str, tuple[_Offer, ...]] = {}
    for name, value in own.get(group, {}).items():
        found[name] = (_Offer(metadata.EntryPoint(name, value, group), PACKAGE),)
    for entry in metadata.entry_points(group=group):
        origin = entry.dist.name if entry.dist else "a distribution without a name"
        if not (own and origin == PACKAGE):
            found[entry.name] = (*found.get(entry.name, ()), _Offer(entry, origin))
    return found


def _of_checkout(file: Path) -> Mapping[str, Mapping[str, str]]:
    """group -> name -> value; empty if this is not a checkout of the package."""
    project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {}) if file.is_file() else {}
    return project.get("entry-points", {}) if project.get("name") == PACKAGE else {}
