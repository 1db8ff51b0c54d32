"""Is the requested text in the picture? Read by OCR, compared word by word and letter by letter.

Case and punctuation at the ends of words are ignored: readers confuse o and O, and nobody asked for a full stop.
"""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy  # its parts are imported when they are first used
from rapidfuzz.distance import LCSseq, Levenshtein

from fewstep.bench.metrics import ocr
from fewstep.bench.metrics.metric import (
    GalleryPicture,
    Metric,
    Skipped,
    Values,
    ValueSpec,
)
from fewstep.bench.metrics.ocr import TextLine

ALIKE = 0.5  # a line that shares less than this with every expected line is none of them
HEIGHTS = {"under_16px": (0, 16), "16_to_32px": (16, 32), "over_32px": (32, np.inf)}


def measure(shot: GalleryPicture) -> Values | Skipped:
    wanted = expected_lines(shot.expect)
    if wanted is None:
        return Skipped("the case says nothing of text")
    if isinstance(shot.pixels, Skipped):
        return shot.pixels
    found = ocr.read_text(shot.pixels)
    return found if isinstance(found, Skipped) else text_values(wanted, found)


def expected_lines(expect: Mapping[str, Any]) -> list[str] | None:
    """An empty list asks for a picture without text; None asks for nothing. In the pocket world, a sign's letters."""
    lines = expect.get("text")
    if lines is None:
        return [str(expect["letters"])] if expect.get("letters") else None
    return [
        line
        for text in ([lines] if isinstance(lines, str) else lines)
        for line in str(text).splitlines()
        if line.strip()
    ]


def text_values(wanted: Sequence[str], found: Sequence[TextLine]) -> Values:
    """word_precision, word_recall, word_f1: of words as a bag, in any order. order: share of the correct words that are
    in the order asked. exact_lines: share of lines read exactly. cer: character error rate, the edit distance of all
    the text over its length, 1 at most. extra_lines: lines that resemble nothing asked for. cer_<height>: by the height
    of the line. turned_lines: lines that are upside down or sideways. Nobody asked for those: they are not read, count
    as extra lines, and what was asked is missing."""
    turned = {"turned_lines": float(sum(line.turned for line in found))}
    if not wanted:
        words = words_in(" ".join(line.text for line in found))
        return {"extra_lines": float(len(found)), "extra_words": float(len(words)), **turned}
    upright = [line for line in found if not line.turned]
    read = [line.text for line in upright]
    pairs = matched_lines(wanted, read)
    asked, seen = words_in(" ".join(wanted)), words_in(" ".join(read))
    return {
        **_of_words(asked, seen),
        "exact_lines": sum(normalised_line(wanted[i]) == normalised_line(read[j]) for i, j in pairs) / len(wanted),
        "cer": error_rate(" ".join(wanted), " ".join(read)),
        "extra_lines": sum(_alike(wanted, line) < ALIKE for line in read) + turned["turned_lines"],
        "extra_words": float((Counter(seen) - Counter(asked)).total()),
        **turned,
        **_by_height(wanted, upright, pairs),
    }


def normalised_line(line: str) -> str:
    """Compatibility forms unified (NFKC), case folded, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", line).casefold().split())


def words_in(line: str) -> list[str]:
    """Split at spaces, with punctuation at the ends removed; in a script without spaces each character is a word."""
    found: list[str] = []
    for part in normalised_line(line).split():
        word = part.strip("".join(c for c in set(part) if unicodedata.category(c)[0] in "PS"))
        found += list(word) if any(ocr.ideographic(c) for c in word) else [word] if word else []
    return found


def error_rate(wanted: str, read: str) -> float:
    """Letters to insert, delete or replace (Levenshtein 1966), over the letters wanted. At most 1, so one page of
    nonsense does not outweigh ten pictures."""
    asked = normalised_line(wanted)
    return min(1.0, Levenshtein.distance(asked, normalised_line(read)) / len(asked))


def matched_lines(wanted: Sequence[str], read: Sequence[str]) -> list[tuple[int, int]]:
    """The most similar pairing of lines, each used once."""
    if not read:
        return []
    alike = np.array(
        [[Levenshtein.normalized_similarity(normalised_line(a), normalised_line(b)) for b in read] for a in wanted]
    )
    rows, columns = scipy.optimize.linear_sum_assignment(-alike)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True)]


def _of_words(asked: list[str], seen: list[str]) -> Values:
    right = (Counter(asked) & Counter(seen)).total()
    found = {"word_recall": right / len(asked) if asked else 0.0, "word_precision": right / len(seen) if seen else 0.0}
    both = sum(found.values())
    found["word_f1"] = 2 * found["word_recall"] * found["word_precision"] / both if both else 0.0
    if right:
        found["order"] = LCSseq.similarity(asked, seen) / right
    return found


def _by_height(wanted: Sequence[str], found: Sequence[TextLine], pairs: Sequence[tuple[int, int]]) -> Values:
    """Only of lines that were found: a line that is missing has no height."""
    classes: dict[str, list[float]] = {name: [] for name in HEIGHTS}
    for i, j in pairs:
        if _alike([wanted[i]], found[j].text) >= ALIKE:
            for name, (low, high) in HEIGHTS.items():
                if low <= found[j].height < high:
                    classes[name].append(error_rate(wanted[i], found[j].text))
    return {f"cer_{name}": float(np.mean(rates)) for name, rates in classes.items() if rates}


def _alike(wanted: Sequence[str], line: str) -> float:
    """A line may have been read as a part of one, or as two in one. So the share of the shorter one found in the longer
    counts."""
    return max(_share(normalised_line(each), normalised_line(line)) for each in wanted)


def _share(a: str, b: str) -> float:
    return LCSseq.similarity(a, b) / max(1, min(len(a), len(b)))


_SHARE, _RATE, _COUNT = ValueSpec("share", "higher"), ValueSpec("edits a letter", "lower"), ValueSpec("count", "lower")
METRIC = Metric(
    name="text",
    version="2",
    main="word_f1",
    values={
        "word_f1": _SHARE,
        "word_precision": _SHARE,
        "word_recall": _SHARE,
        "order": _SHARE,
        "exact_lines": _SHARE,
        "cer": _RATE,
        "extra_lines": _COUNT,
        "extra_words": _COUNT,
        "turned_lines": _COUNT,
        **{f"cer_{name}": _RATE for name in HEIGHTS},
    },
    measure=measure,
    tools=ocr.tools,
)
