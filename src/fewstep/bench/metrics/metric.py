"""What a metric is, and what it gets: a picture, the case it answers, and the case's other pictures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fewstep.bench.gallery import Gallery, ManifestRow
from fewstep.bench.statistics import SHARE, Bounds
from fewstep.bench.suite import Question, Suite
from fewstep.data.pictures import open_picture
from fewstep.runtime.errors import CaseError, GalleryError

Pixels = NDArray[np.uint8]  # (height, width, 3) RGB
Mask = NDArray[np.bool_]


NO_PICTURE = "no picture: "  # prefix of a reason that is the system's fault; otherwise the metric does not apply


@dataclass(frozen=True)
class Skipped:
    """The metric does not apply to this picture, or cannot be computed here."""

    why: str


Values = dict[str, float]


@dataclass(frozen=True)
class ValueSpec:
    """better: the better direction; None if neither is better (the aim is the teacher's own value). compared: how two
    systems are compared: by a ratio of means if 0 means none at all, else by a difference."""

    unit: str
    better: Literal["higher", "lower"] | None
    compared: Literal["difference", "ratio"] = "difference"

    @property
    def bounds(self) -> Bounds | None:
        """The ends of the scale, if it has any."""
        return SHARE if self.unit == "share" else None


def no_tools() -> str:
    """For a metric that depends on nothing but this package."""
    return ""


@dataclass(frozen=True)
class Metric:
    """version: must change whenever values would. main: the value that represents the metric. of_case: reads the case's
    other pictures too. tools: what else, installed here, the values depend on."""

    name: str
    version: str
    main: str
    values: Mapping[str, ValueSpec]
    measure: Callable[["GalleryPicture"], Values | Skipped]
    of_case: bool = False
    tools: Callable[[], str] = no_tools


@dataclass(frozen=True)
class GalleryPicture:
    """One picture of a gallery and the question it answers. Pixels are read on first use."""

    row: ManifestRow
    question: Question
    suite: Suite
    gallery: Gallery
    siblings: Sequence["GalleryPicture"] = ()

    @property
    def key(self) -> tuple[str, int]:
        return str(self.row["case"]), int(self.row["seed"])

    @property
    def drawn(self) -> bool:
        return self.row.get("status", "drawn") == "drawn"

    @property
    def expect(self) -> Mapping[str, Any]:
        return self.question.expect

    @property
    def size_asked(self) -> tuple[int, int] | None:
        """(height, width) of the answer: the case's, else the suite's; None if the model chooses."""
        case = self.question.case
        if case.height is not None and case.width is not None:
            return case.height, case.width
        return self.suite.size

    @cached_property
    def pixels(self) -> Pixels | Skipped:
        if not self.drawn:
            return Skipped(f"{NO_PICTURE}{self.row.get('why') or 'it could not be drawn'}")
        try:
            return np.asarray(self.gallery.picture(*self.key))
        except GalleryError as error:
            return Skipped(f"{NO_PICTURE}{error}")

    @cached_property
    def source(self) -> Image.Image | None:
        """The reference picture of an edit."""
        references = self.question.case.references
        return open_picture(references[0], self.question.case.where).convert("RGB") if references else None

    @cached_property
    def target(self) -> Image.Image | None:
        """The exact answer of an edit, if the suite has one."""
        path = self.question.case.target
        return None if path is None else open_picture(path, self.question.case.where).convert("RGB")

    @cached_property
    def region(self) -> Image.Image | None:
        """White where an edit may change the picture.

        Raises:
            CaseError: the suite names a mask that cannot be read.
        """
        path = self.suite.region(self.question)
        if path is None:
            return None
        if not path.is_file():
            raise CaseError(f"{self.question.case.where}: there is no mask {path}; restore the suite's folder")
        return open_picture(path, self.question.case.where).convert("L")
