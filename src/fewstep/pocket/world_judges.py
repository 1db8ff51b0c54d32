"""What reads the galleries of the embedded worlds' suites: the probe, or the harder world's reader."""

from collections.abc import Callable
from pathlib import Path

from fewstep.bench.gallery import open_gallery
from fewstep.bench.suites import suite_of
from fewstep.bench.verdict import Verdict
from fewstep.pocket.harder.judge import is_harder_suite, judge_harder
from fewstep.pocket.judge import judge


def judge_gallery(folder: Path, advance: Callable[[int], object] = lambda count: None) -> list[Verdict]:
    """The verdicts on every picture, written below the gallery, by what reads the world of its suite.

    Raises:
        GalleryError: no gallery, or one of no embedded world's suite.
        SuiteError: the suite is not the one that the gallery was made for.
    """
    open_gallery(folder)  # says best what is no gallery
    return judge_harder(folder, advance) if is_harder_suite(suite_of(folder)) else judge(folder, advance)
