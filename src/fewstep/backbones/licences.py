"""Licences of models, and what a student inherits from them.

A model's own card comes first. For a folder without one, the licence of its family's makers stands in. What the terms
allow is told for the few that are known here; of any other it is said that they are not known.
"""

from dataclasses import dataclass
from pathlib import Path

import yaml

FREE = frozenset({"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0"})
RESTRICTED = ("non-commercial", "noncommercial", "-nc", "research")  # in a licence's id or name


@dataclass(frozen=True)
class Licence:
    """A licence as a model's card states it: an SPDX-like id, and for `other` a name and a link. None means that the
    card does not say."""

    id: str | None = None
    name: str | None = None
    link: str | None = None

    @property
    def words(self) -> str:
        return self.name or self.id or "not stated by the base"

    @property
    def commercial(self) -> bool | None:
        """Whether commercial use is allowed; None for terms that are not known here."""
        said = (
            f"{self.id or ''} {self.name or ''}".lower().replace("_", "-").replace("non commercial", "non-commercial")
        )
        if any(word in said for word in RESTRICTED):
            return False
        return True if (self.id or "").lower() in FREE else None


APACHE = Licence("apache-2.0", "Apache-2.0")


def licence_of(base: Path) -> Licence:
    """The licence in the front matter of a model folder's README.md."""
    readme = base / "README.md"
    if not readme.is_file():
        return Licence()
    parts = readme.read_text(encoding="utf-8", errors="replace").split("---\n", 2)
    if len(parts) < 3 or parts[0].strip():
        return Licence()
    try:
        head = yaml.safe_load(parts[1])
    except yaml.YAMLError:
        return Licence()
    if not isinstance(head, dict):
        return Licence()
    said = {key: head.get(key) for key in ("license", "license_name", "license_link")}
    return Licence(*(None if value is None else str(value) for value in said.values()))


@dataclass(frozen=True)
class InheritedLicence:
    """What a student of a model inherits. stated: by the model's own card, not taken from its family's makers."""

    licence: Licence
    stated: bool

    @property
    def words(self) -> str:
        """The licence, where it was read, and what it means for a student."""
        source = "" if self.stated else " (that of the makers' weights; this model states none)"
        return f"{self.licence.words}{source}: {self.consequence}"

    @property
    def consequence(self) -> str:
        return {
            True: "a student may be used commercially, under the same terms",
            False: "no commercial use, neither of the model nor of a student",
            None: "these terms are not known here; a student inherits them, so read them first",
        }[self.licence.commercial]


def inherited_licence(folder: Path | None, makers: Licence) -> InheritedLicence:
    """What a student of the model in `folder` inherits.

    Args:
        folder: None for a model that is not on this machine.
        makers: the licence of its family's makers (`PipelineBackbone.makers_licence`).
    """
    stated = Licence() if folder is None else licence_of(folder)
    return InheritedLicence(stated, True) if stated.id else InheritedLicence(makers, False)
