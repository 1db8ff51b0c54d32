"""`fewstep pocket judge` for the harder world's suites: the reader as another judge of a gallery, in every judge's
record and on its scale of 1 to 5. The score is defined in `score.py`.

A suite holds pictures and words. The scene, its exact answers and what has to stay follow from a case's id, so the case
is drawn again, and held against the suite's own words and pictures.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from fewstep.bench.gallery import Gallery, open_gallery
from fewstep.bench.pixels import pixel_hash
from fewstep.bench.suite import Question, Suite
from fewstep.bench.suites import suite_of
from fewstep.bench.verdict import Verdict, write_verdicts
from fewstep.data.pictures import open_picture
from fewstep.pocket.harder import probe
from fewstep.pocket.harder.cases import HarderCase, instruction_case, prompt_case
from fewstep.pocket.harder.records import picture_record
from fewstep.pocket.harder.score import JUDGE, harder_verdict
from fewstep.pocket.judged_rows import AskedRow, asked_rows
from fewstep.runtime.errors import GalleryError

CASE_ID = re.compile(r"harder-(t2i|edit)-heldout-([a-z0-9-]+)-([0-9]{1,9})-([0-9]{1,9})")
BATCH = 64


def is_harder_suite(suite: Suite) -> bool:
    """Whether all its cases are of the harder world."""
    return all(CASE_ID.fullmatch(question.case.id) for question in suite.questions)


def judge_harder(folder: Path, advance: Callable[[int], object] = lambda count: None) -> list[Verdict]:
    """The verdicts on every picture of a gallery, written to its verdicts/reader.jsonl.

    Raises:
        GalleryError: no gallery, one without pictures, with a picture of another size than was asked for, or of a
            suite whose cases this version draws otherwise.
        SuiteError: the suite is not the one that the gallery was made for.
    """
    gallery, suite = open_gallery(folder), suite_of(folder)
    asked = asked_rows(gallery, suite)
    reader = probe.load_reader(probe.READER)[0]
    model = probe.reader_name(probe.READER)
    verdicts: list[Verdict] = []
    for start in range(0, len(asked), BATCH):
        part = asked[start : start + BATCH]
        verdicts += _judged(gallery, part, reader, model)
        advance(len(part))
    write_verdicts(folder, JUDGE, verdicts)
    return verdicts


def _judged(gallery: Gallery, part: list[AskedRow], reader: probe.Reader, model: str) -> list[Verdict]:
    cases = [harder_case(question) for _, question in part]
    pictures = [_picture(gallery, row, case) for (row, _), case in zip(part, cases, strict=True)]
    found = []
    for (row, _), case, picture, seen in zip(part, cases, pictures, probe.read(reader, pictures), strict=True):
        record = picture_record(picture, seen, case, int(row["seed"]))
        line = harder_verdict(picture, case, record, model)
        found.append(Verdict(**(line | {"failure_modes": tuple(line["failure_modes"])})))
    return found


def harder_case(question: Question) -> HarderCase:
    """The case as the harder world makes it.

    Raises:
        GalleryError: the suite's words or pictures are not those of this case.
    """
    name = CASE_ID.fullmatch(question.case.id)
    assert name is not None, question.case.id
    task, kind, seed, index = name.groups()
    draw = prompt_case if task == "t2i" else instruction_case
    try:
        case = draw(int(seed), int(index), kind)
    except (KeyError, ValueError) as error:
        raise GalleryError(f"{question.case.id}: the harder world has no cases of the kind {kind!r}") from error
    held = [pixel_hash(open_picture(path, question.case.where)) for path in question.case.references]
    words = (case.id, case.category, case.prompt)
    told = (question.case.id, question.case.category, question.case.prompt)
    if words != told or [*map(pixel_hash, case.references)] != held:
        raise GalleryError(
            f"{question.case.id}: this version of fewstep makes another case of that name; judge the gallery with the "
            "version that made its suite, or draw a new gallery"
        )
    return case


def _picture(gallery: Gallery, row: dict[str, Any], case: HarderCase) -> Image.Image:
    picture = gallery.picture(str(row["case"]), int(row["seed"]))
    if picture.size != case.target.size:
        asked, found = ("{} x {} px".format(*each) for each in (case.target.size, picture.size))
        raise GalleryError(
            f"{gallery.path(case.id, int(row['seed']))} is of {found}, and the case asks for {asked} (width x height); "
            "draw it again at that size"
        )
    return picture
