"""`fewstep pocket judge`: the probe as another judge of a gallery, in every judge's record and on its scale of 1 to 5.
The score is defined in `score.py`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fewstep.backbones.identity import digest
from fewstep.bench.gallery import Gallery, open_gallery
from fewstep.bench.pixels import file_hash
from fewstep.bench.suite import Question, Suite
from fewstep.bench.suites import suite_of
from fewstep.bench.verdict import Verdict, write_verdicts
from fewstep.data.pictures import open_picture
from fewstep.pocket.cases import PocketCase
from fewstep.pocket.judged_rows import AskedRow, asked_rows
from fewstep.pocket.probe import WEIGHTS, Probe
from fewstep.pocket.score import (
    JUDGE,
    PROTOCOL,
    score_of,
    score_shares,
)
from fewstep.pocket.world import (
    Landscape,
    Portrait,
    Scene,
    Sign,
)
from fewstep.runtime.errors import GalleryError

SCENES: dict[str, type[Scene]] = {"landscape": Landscape, "portrait": Portrait, "text": Sign}
BATCH = 256

_Row = dict[str, Any]


def judge(folder: Path, advance: Callable[[int], object] = lambda count: None) -> list[Verdict]:
    """The verdicts on every picture of a gallery, written to its verdicts/probe.jsonl.

    Raises:
        GalleryError: no gallery, or one of a suite that does not say what a probe should read.
        SuiteError: the suite is not the one that the gallery was made for.
    """
    gallery, suite = open_gallery(folder), suite_of(folder)
    asked = _asked(gallery, suite)
    probe, model = Probe.load(), digest([(WEIGHTS / "reader.safetensors").read_bytes()])
    verdicts: list[Verdict] = []
    for start in range(0, len(asked), BATCH):
        part = asked[start : start + BATCH]
        pictures = [gallery.picture(str(row["case"]), int(row["seed"])) for row, _ in part]
        cases = [pocket_case(suite, question) for _, question in part]
        read = probe.examine(pictures, cases)
        for (row, question), picture, case, record in zip(part, pictures, cases, read, strict=True):
            key = _key(gallery, row, question, model)
            verdicts.append(_verdict(row, question, case, record, score_shares(picture, case, record), key, model))
        advance(len(part))
    write_verdicts(folder, JUDGE, verdicts)
    return verdicts


def pocket_case(suite: Suite, question: Question) -> PocketCase:
    """The case as the pocket world made it, rebuilt from the expectations of the suite."""
    case, expect = question.case, question.expect
    region = suite.region(question)
    scene = SCENES[expect["scene_category"]](**expect["scene"])
    blank = Image.new("RGB", (1, 1))
    return PocketCase(
        id=case.id,
        task=case.task,
        category=case.category,
        prompt=case.prompt,
        references=tuple(open_picture(path, case.where) for path in case.references),
        target=blank if case.target is None else open_picture(case.target, case.where),
        attributes=dict(expect["attributes"]),
        changed=tuple(expect.get("changed", ())),
        letters=None if "style" in expect["attributes"] else expect.get("letters"),
        region=None if region is None else np.asarray(open_picture(region, case.where).convert("L")) > 127,
        scene_category=expect["scene_category"],
        scene=scene,
    )


def _asked(gallery: Gallery, suite: Suite) -> list[AskedRow]:
    if not all("scene" in q.expect and q.expect.get("scene_category") in SCENES for q in suite.questions):
        raise GalleryError(
            f"the probe reads pocket pictures only, and {suite.name} is no pocket suite; judge it with an endpoint"
        )
    return asked_rows(gallery, suite)


def _verdict(
    row: _Row, question: Question, case: PocketCase, record: _Row, found: Mapping[str, float], key: str, model: str
) -> Verdict:
    return Verdict(
        key=key,
        case=case.id,
        seed=int(row["seed"]),
        task=case.task,
        category=case.category,
        judge=JUDGE,
        model=f"reader-{model}",
        protocol=PROTOCOL,
        status="ok",
        score=round(score_of(min(found.values())), 4),
        sub_scores={name: round(score_of(share), 4) for name, share in found.items()},
        reasoning=_words(case, record),
        failure_modes=_failures(case, record, found),
    )


def _words(case: PocketCase, record: _Row) -> str:
    wrong = [f"{name} is not {case.attributes[name]}" for name, good in record["right"].items() if not good]
    if case.letters is not None and not record["letters_exact"]:
        wrong.append(f"reads {record['letters_read']!r}, not {case.letters!r}")
    return "; ".join(wrong) or "all read as asked"


def _failures(case: PocketCase, record: _Row, found: Mapping[str, float]) -> tuple[str, ...]:
    named = {
        "wrong_letters": record["letters_exact"] is False,
        "edit_not_done": found.get("changed", 1.0) == 0 or found.get("closed", 1.0) == 0,
        "other_things_changed": case.task == "edit" and found.get("kept", 1.0) < 1,
        "attributes_wrong": case.task == "t2i" and not all(record["right"].values()),
    }
    return tuple(name for name, so in named.items() if so)


def _key(gallery: Gallery, row: _Row, question: Question, model: str) -> str:
    """A hash of pixels, words, protocol and weights; never of paths."""
    paths = (gallery.path(str(row["case"]), int(row["seed"])), *question.case.references)
    return digest(part.encode() for part in (*map(file_hash, paths), question.case.prompt, PROTOCOL, model))
