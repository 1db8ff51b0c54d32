"""A suite of plain colours, galleries of it, and verdicts on them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewstep.bench import gallery as galleries
from fewstep.bench.drafts import DraftCase, SuiteHeading
from fewstep.bench.suite import Suite
from fewstep.bench.suite_files import write_suite
from fewstep.bench.suites import copy_into_gallery, read_suite
from fewstep.bench.verdict import Verdict, write_verdicts

CASES, SIDE = 12, 48
Look = Callable[[int, int], Image.Image]  # of case i and seed number k


def picture(i: int, k: int = 0, noise: float = 0) -> Image.Image:
    rng = np.random.default_rng([i, k])
    level = np.array([40 + 10 * i, 90 + 20 * k, 160])
    return Image.fromarray(np.clip(level + rng.normal(0, noise, (SIDE, SIDE, 3)), 0, 255).round().astype(np.uint8))


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    """Two categories of plain pictures, two seeds a case."""
    drafts = [
        DraftCase(f"c{i}", f"plain colour {i}", ("wall", "sky")[i % 2], expect={"text": []}) for i in range(CASES)
    ]
    folder = tmp_path / "suite"
    write_suite(SuiteHeading("plain", "1", "t2i", 2, (SIDE, SIDE), "CC0-1.0"), drafts, folder)
    return read_suite(folder)


def drawn(suite: Suite, folder: Path, look: Look, skip: set[int] | None = None) -> Path:
    made = galleries.begin_gallery(folder, folder.name, suite.identity, {}, "adopted")
    copy_into_gallery(suite, folder)
    for i, question in enumerate(suite.questions):
        for k, seed in enumerate(question.seeds):
            facts = {"k": k, "task": "t2i", "category": question.case.category, "prompt": question.case.prompt}
            if i in (skip or ()):
                made.fail(question.case.id, seed, "out of memory", facts)
            else:
                made.add(question.case.id, seed, look(i, k), facts)
    return folder


def judged(suite: Suite, folder: Path, score: Callable[[int], float | None], judge: str = "probe") -> Path:
    found = []
    for i, question in enumerate(suite.questions):
        for k, seed in enumerate(question.seeds):
            case, value = question.case, score(i)
            value = None if value is None else value + 0.1 * k
            status = "refused" if value is None else "ok"
            about = {"task": "t2i", "category": case.category, "judge": judge, "model": "m", "protocol": "t2i-v1"}
            found.append(Verdict(key=f"{i}-{k}", case=case.id, seed=seed, status=status, score=value, **about))  # type: ignore[arg-type]
    write_verdicts(folder, judge, found)
    return folder
