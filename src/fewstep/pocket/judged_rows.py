"""What a judge of an embedded world reads of a gallery: its pictures, each with the question that it answers."""

from typing import Any

from fewstep.bench.gallery import Gallery
from fewstep.bench.suite import Question, Suite
from fewstep.runtime.errors import GalleryError

AskedRow = tuple[dict[str, Any], Question]


def asked_rows(gallery: Gallery, suite: Suite) -> list[AskedRow]:
    """
    Raises:
        GalleryError: no pictures, or one that the suite does not ask for.
    """
    questions = {question.case.id: question for question in suite.questions}
    rows = list(gallery)
    foreign = next((row["case"] for row in rows if row["case"] not in questions), None)
    if foreign is not None:
        raise GalleryError(f"{gallery.folder} has a picture of {foreign!r}, which {suite.name} does not ask for")
    if not rows:
        raise GalleryError(f"{gallery.folder} has no pictures to judge; draw them first")
    return [(row, questions[row["case"]]) for row in rows]
