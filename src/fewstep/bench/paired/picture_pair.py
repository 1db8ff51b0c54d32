"""Figures of one answer beside the teacher's, from the same prompt and noise. No judge and no model: pixels alone.

What an edit had to leave alone is not asked of a mask, which most cases lack. It is where the teacher's own answer and
the source agree: there a student has no reason to differ either.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Lock

import numpy as np
import scipy  # its parts are imported when they are first used
import skimage  # its parts are imported when they are first used
from PIL import Image

from fewstep.bench.metrics import ocr
from fewstep.bench.metrics.diversity import layout_features
from fewstep.bench.metrics.flat_noise import flat_noise
from fewstep.bench.metrics.metric import Mask, Pixels, Skipped, Values
from fewstep.bench.metrics.preserve import BLUR, NOTICED, pair_of, preserve, psnr, ssim_map
from fewstep.bench.metrics.text import text_values
from fewstep.bench.metrics.tone import tone

LARGEST = 512  # px, ours: structure is compared at this longer side at most; finer detail differs by noise alone
SMALLEST = 11  # px: SSIM's window
_READER = Lock()  # the reader keeps state between its parts, and pictures are measured in threads
SCALES = 5  # as in MS-SSIM (Wang, Simoncelli, Bovik 2003), each half the one before


@dataclass(frozen=True)
class AnswerPair:
    """
    Args:
        answer: the student's picture; the teacher's own, to measure what is asked of a student.
        teacher: the teacher's picture of the same case and noise.
        source: the last reference of an edit; None for text to image.
        text: the words that the prompt puts in quotes.
    """

    answer: Pixels
    teacher: Pixels
    source: Image.Image | None = None
    text: Sequence[str] = ()


@dataclass(frozen=True)
class PairRecord:
    """values: figures by their short names. missing: why others could not be had."""

    values: Values
    missing: dict[str, str]


def measure_pair(pair: AnswerPair) -> PairRecord:
    """Every figure of one answer. One that fails is missing, with the reason, and never guessed."""
    values: Values = {}
    missing: dict[str, str] = {}
    for names, measure in _MEASURES:
        try:
            found = measure(pair)
        except (ValueError, ArithmeticError, IndexError, np.linalg.LinAlgError) as error:
            found = Skipped(f"{type(error).__name__}: {error}")
        if isinstance(found, Skipped):
            missing |= dict.fromkeys(names, found.why)
        else:
            values |= {name: float(value) for name, value in found.items() if np.isfinite(value)}
            missing |= {name: "not finite" for name, value in found.items() if not np.isfinite(value)}
    return PairRecord(values, missing)


def structure(a: Pixels, b: Pixels) -> float:
    """Mean over scales of 1 - SSIM (Wang et al. 2004), at up to 512 px and each half of it down to 11 px. 0 for equal
    pictures. It stands in for a distance of learnt features where no weights of LPIPS are at hand."""
    first = [Image.fromarray(x) for x in (a, b)]
    width, height = first[0].size
    scale = min(1.0, LARGEST / max(width, height))
    found = []
    for level in range(SCALES):
        size = round(width * scale / 2**level), round(height * scale / 2**level)
        if min(size) < SMALLEST:
            break
        small = [np.asarray(x.resize(size, Image.Resampling.BOX)) for x in first]
        found.append(1 - float(ssim_map(small[0], small[1]).mean()))
    if not found:
        raise ValueError(f"a side is shorter than {SMALLEST} px")
    return float(np.mean(found))


def seeds_distance(pictures: Sequence[Pixels]) -> float:
    """Mean distance of a prompt's pictures over its seeds: thumbnails of 16 px in CIE Lab, as in `diversity`."""
    features = [layout_features(each) for each in pictures]
    pairs = [np.linalg.norm(a - b) for i, a in enumerate(features) for b in features[i + 1 :]]
    return float(np.mean(pairs))


def unchanged_by_teacher(teacher: Pixels, source: Pixels) -> Mask:
    """Where the teacher left the source as it was: their blurred difference is below what eyes notice."""
    difference = skimage.color.rgb2lab(teacher) - skimage.color.rgb2lab(source)
    blurred = scipy.ndimage.gaussian_filter(difference, (BLUR, BLUR, 0))
    return np.asarray(np.linalg.norm(blurred, axis=-1) < NOTICED)


# ---- the figures of a pair


def _likeness(pair: AnswerPair) -> Values | Skipped:
    if pair.answer.shape != pair.teacher.shape:
        return Skipped("the answer and the teacher's differ in size")
    everywhere = np.ones(pair.answer.shape[:2], bool)
    return {"psnr": psnr(pair.answer, pair.teacher, everywhere), "structure": structure(pair.answer, pair.teacher)}


def _noise(pair: AnswerPair) -> Values | Skipped:
    found = flat_noise(pair.answer)
    return found if isinstance(found, Skipped) else {"flat_noise": found["luma"]}


def _tone(pair: AnswerPair) -> Values:
    found = tone(pair.answer)
    return {name: found[name] for name in ("saturation", "contrast")}


def _read(pair: AnswerPair) -> Values | Skipped:
    if not pair.text or pair.source is not None:
        return Skipped("no words in quotes")
    with _READER:
        found = ocr.read_text(pair.answer)
    return found if isinstance(found, Skipped) else {"text": text_values(pair.text, found)["word_f1"]}


def _edit(pair: AnswerPair) -> Values | Skipped:
    if pair.source is None:
        return Skipped("no edit")
    both = pair_of(pair.answer, pair.source.convert("RGB"), None)
    if isinstance(both, Skipped):
        return both
    if both.source.shape != pair.teacher.shape:
        return Skipped("the answer and the teacher's differ in size")
    keep = unchanged_by_teacher(pair.teacher, both.source)
    partly = bool(keep.any()) and not bool(keep.all())
    found = preserve(replace(both, keep=keep if partly else None))
    if isinstance(found, Skipped):
        return found
    named = {"shift": "shift", "tint": "tint", "colour": "drift"}
    values = {name: found[old] for old, name in named.items() if old in found}
    # A teacher that changed nothing asked for nothing: then there is no edit that could be missing.
    return values | ({} if bool(keep.all()) else {"no_op": found["no_op"]})


_MEASURES: tuple[tuple[tuple[str, ...], Callable[[AnswerPair], Values | Skipped]], ...] = (
    (("psnr", "structure"), _likeness),
    (("flat_noise",), _noise),
    (("saturation", "contrast"), _tone),
    (("text",), _read),
    (("shift", "tint", "drift", "no_op"), _edit),
)
