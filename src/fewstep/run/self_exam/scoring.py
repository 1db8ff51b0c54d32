"""Models that score the answers of an examination: CLIP, SigLIP, PickScore and the like, from local folders.

A scorer is opened for each examination and dropped after it, so it takes no memory while the run trains.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image

from fewstep.backbones.scorers import Scorer
from fewstep.run.self_exam.exam_cases import ExamCase, FrozenSet
from fewstep.run.self_exam.plan import ExaminePlan
from fewstep.run.self_exam.records import ExamRecord
from fewstep.runtime.errors import FewstepError

BATCH = 16  # pictures at once, ours


class DrawnAnswers(Protocol):
    """Where the pictures of an examination are."""

    @property
    def exam(self) -> FrozenSet: ...

    def picture(self, who: str, one: ExamCase, seed: int) -> Path: ...


def exam_scoring(
    plan: ExaminePlan, device: torch.device
) -> Callable[[DrawnAnswers, str, Sequence[ExamRecord]], list[ExamRecord]] | None:
    """What adds the scorers' figures to records, as `score_NAME`; None if the recipe names none."""
    if not plan.scorers:
        return None

    def scored(drawer: DrawnAnswers, who: str, records: Sequence[ExamRecord]) -> list[ExamRecord]:
        found = list(records)
        for name, folder in plan.scorers.items():
            found = _with_scores(name, folder, device, drawer, who, found)
        return found

    return scored


def _with_scores(
    name: str, folder: str, device: torch.device, drawer: DrawnAnswers, who: str, records: Sequence[ExamRecord]
) -> list[ExamRecord]:
    """The same records, with the score of each picture; or why there is none."""
    key = f"score_{name}"
    try:
        scores = _scores(Scorer(Path(folder), device), drawer, who, records)
    except (FewstepError, RuntimeError) as error:  # out of memory too: the run goes on without this figure
        return [replace(record, missing=record.missing | {key: str(error)}) for record in records]
    return [
        record if score is None else replace(record, values=record.values | {key: score})
        for record, score in zip(records, scores, strict=True)
    ]


def _scores(scorer: Scorer, drawer: DrawnAnswers, who: str, records: Sequence[ExamRecord]) -> list[float | None]:
    by_id = {one.case.id: one for one in drawer.exam.cases}
    found: list[float | None] = [None] * len(records)
    drawn = [i for i, r in enumerate(records) if drawer.picture(who, by_id[r.case], r.seed).is_file()]
    for at in range(0, len(drawn), BATCH):
        part = drawn[at : at + BATCH]
        ones = [by_id[records[i].case] for i in part]
        pictures = [Image.open(drawer.picture(who, one, records[i].seed)) for i, one in zip(part, ones, strict=True)]
        cosines = (scorer.features(pictures) * scorer.text_features([one.case.prompt for one in ones])).sum(axis=1)
        for i, cosine in zip(part, cosines, strict=True):
            found[i] = scorer.logit(float(cosine))
    return found
