"""`fewstep bench check`: what is wrong with a suite whose hash is correct. Returns data and prints nothing."""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from fewstep.bench.pixels import file_hash
from fewstep.bench.suite import Question, Suite
from fewstep.data.pictures import open_picture
from fewstep.runtime.errors import CaseError

EXPECTED = {
    "text": list,
    "letters": str,
    "attributes": dict,
    "changed": list,
    "region": str,
    "scene_category": str,
    "scene": dict,
    "objects": list,
    "absent": list,
}


@dataclass(frozen=True)
class SuiteProblems:
    """problems make a suite unfit; warnings are worth a look."""

    problems: tuple[str, ...]
    warnings: tuple[str, ...]


def suite_problems(suite: Suite) -> SuiteProblems:
    """Checks every expectation, every mask and every doubled case."""
    problems = [problem for question in suite.questions for problem in _problems(question, suite)]
    twice = [q.case.id for q in suite.questions if len(set(q.seeds)) < suite.seeds]
    problems += [f"{name}: two of its seeds are equal; give the case another id" for name in twice]
    return SuiteProblems(tuple(problems), tuple(_warnings(suite)))


def _problems(question: Question, suite: Suite) -> Iterator[str]:
    name = question.case.id
    for key, value in question.expect.items():
        if key not in EXPECTED:
            yield f"{name}: expect.{key} is not known; known are {', '.join(EXPECTED)}"
        elif not isinstance(value, EXPECTED[key]):
            yield f"{name}: expect.{key} is {value!r:.60}, not a {EXPECTED[key].__name__}"
    lines = question.expect.get("text")
    if isinstance(lines, list) and not all(isinstance(line, str) and line.strip() for line in lines):
        yield f"{name}: expect.text holds lines of text, none of them empty"
    yield from _mask_problems(question, suite)


def _mask_problems(question: Question, suite: Suite) -> Iterator[str]:
    """A mask is as large as its source, has black and white or only white, and no grey."""
    path = suite.region(question)
    if path is None:
        return
    if not question.case.references:
        yield f"{question.case.id}: a region without a source picture"
        return
    try:
        mask = open_picture(path, question.case.id).convert("L")
        source = open_picture(question.case.references[-1], question.case.id)
    except CaseError as error:
        yield str(error)
        return
    if mask.size != source.size:
        yield f"{question.case.id}: the mask is {_size(mask)} and the source {_size(source)}"
    levels = {level for level, count in enumerate(mask.histogram()) if count}
    if not levels <= {0, 255}:
        yield f"{question.case.id}: the mask has grey pixels; white may change, black may not"
    if levels == {0}:
        yield f"{question.case.id}: by its mask nothing may change"


def _size(picture: Image.Image) -> str:
    return f"{picture.height} x {picture.width} px"


def _warnings(suite: Suite) -> Iterator[str]:
    first: dict[tuple[str, ...], str] = {}
    for question in suite.questions:
        case = question.case
        words = " ".join(unicodedata.normalize("NFKC", case.prompt).casefold().split())
        known = first.setdefault((words, *map(file_hash, case.references)), case.id)
        if known != case.id:
            yield f"{case.id} asks the same as {known}"
    if suite.license is None:
        yield "the suite states no licence"
