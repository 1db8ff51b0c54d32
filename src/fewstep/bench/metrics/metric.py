"""What a metric is, and what it is shown: a picture, the case it answers, and the case's other pictures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fewstep.bench.gallery import Gallery, ManifestRow
from fewstep.bench.suite import Question, Suite
from fewstep.data.pictures import open_picture
from fewstep.runtime.errors import CaseError, GalleryError

Pixels = NDArray[np.uint8]  # (height, width, 3) RGB
Mask = NDArray[np.bool_]


NO_PICTURE = "no picture: "  # how a reason begins that is the system's fault, and not a metric that does not apply


@dataclass(frozen=True)
class Skipped:
    """The metric does not apply to this picture, or cannot be had here."""

    why: str


Values = dict[str, float]


@dataclass(frozen=True)
class ValueSpec:
    """better: which direction; None where neither is (the teacher's own value is the aim). compared: how two systems
    are: by a ratio of means where 0 is nothing at all, else by a difference."""

    unit: str
    better: Literal["higher", "lower"] | None
    compared: Literal["difference", "ratio"] = "difference"


def no_tools() -> str:
    """Of a metric that depends on nothing but this package."""
    return ""


@dataclass(frozen=True)
class Metric:
    """version changes whenever values would. main: the value that stands for the metric. of_case: reads the case's
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
    """One picture of a gallery and what it answers. Pixels are read when first asked for."""

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
        """(height, width) of the answer: the case's, else the suite's; None where it is the model's to choose."""
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
        """The picture that an edit begins with."""
        references = self.question.case.references
        return open_picture(references[0], self.question.case.where).convert("RGB") if references else None

    @cached_property
    def target(self) -> Image.Image | None:
        """The exact answer of an edit, where the suite has one."""
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
