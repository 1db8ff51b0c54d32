"""Text in pictures, read by rapidocr with the models that its package bundles: no network. The extra `ocr`.

Text is read as it stands. The reader itself turns every line until it can be read, so it would find nothing wrong with
lettering that is upside down or sideways. Here it may not; its classifier of orientation only tells which lines are
turned.
"""

import importlib
import importlib.metadata
import importlib.util
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from fewstep.bench.metrics.metric import Pixels, Skipped

PACKAGES = ("rapidocr", "onnxruntime")
MISSING = "text needs the extra: pip install 'fewstep[ocr]'"
LEAST_SIDE = 384  # px; smaller pictures are enlarged by a whole number: then all of 12 pocket signs at 64 px are read
SIDE_READ = 1536  # px; the longer side at which lines are looked for: 12 px glyphs of a 1,328 px picture survive


TALL = 1.5  # height over width from which the reader takes a line to run upwards or downwards (its own limit)
FEWEST = 3  # letters of a line that runs so; single letters are tall too


@dataclass(frozen=True)
class TextLine:
    """height: of its box, in px of the picture; sure: the reader's own confidence, 0..1. turned: the lettering is
    upside down or sideways, by more than 45 degrees; then `text` is what could be made of it."""

    text: str
    height: float
    sure: float
    turned: bool = False


def tools() -> str:
    """The versions of the reader, for the key of a record: another version may read differently."""
    if not _there():
        return "none"
    return " ".join(f"{name} {_version(name)}" for name in PACKAGES)


_version = lru_cache(importlib.metadata.version)  # it searches the disk, and is called for every picture


def read_text(pixels: Pixels) -> list[TextLine] | Skipped:
    """Lines from top to bottom, and from left to right if they are at one height."""
    if not _there():
        return Skipped(MISSING)
    times = max(1, -(-LEAST_SIDE // min(pixels.shape[:2])))
    picture = _enlarged(pixels, times)
    found = _reader()(_bgr(picture), use_det=True, use_cls=False, use_rec=True)
    if found.txts is None:
        return []
    lines: list[tuple[np.ndarray, TextLine]] = []
    for read, text, sure in zip(found.boxes, found.txts, found.scores, strict=True):
        box = np.asarray(read, dtype=np.float64)
        turned = is_sideways(box, text) or _is_upside_down(picture, box, text, float(sure))
        lines.append((box / times, TextLine(text, _height(box / times), float(sure), turned)))
    return _in_order(lines)


def is_sideways(box: np.ndarray, text: str) -> bool:
    """Whether a line runs upwards or downwards. Scripts without spaces may be written so, letter below letter."""
    width = max(np.linalg.norm(box[1] - box[0]), np.linalg.norm(box[2] - box[3]))
    height = max(np.linalg.norm(box[3] - box[0]), np.linalg.norm(box[2] - box[1]))
    letters = [letter for letter in text if letter.isalnum()]
    across = sum(not ideographic(letter) for letter in letters)
    return bool(height >= TALL * width and len(letters) >= FEWEST and across > len(letters) / 2)


def ideographic(letter: str) -> bool:
    """Whether a letter is of a script that is written without spaces."""
    return unicodedata.name(letter, "").startswith(("CJK", "HIRAGANA", "KATAKANA"))


def _is_upside_down(picture: Image.Image, box: np.ndarray, text: str, sure: float) -> bool:
    """The classifier says so, and the line is read with more confidence the other way up. The classifier alone would
    also turn words such as NOON. A letter alone has no verdict."""
    if sum(map(str.isalnum, text)) < 2:  # of one letter the classifier turns upright ones too
        return False
    line = _cut_out(picture, box)
    told = _reader()(_bgr(line), use_det=False, use_cls=True, use_rec=False).cls_res
    if not told or "180" not in told[0][0]:
        return False
    turned = _reader()(_bgr(line.rotate(180)), use_det=False, use_cls=False, use_rec=True)
    return bool(turned.scores) and float(turned.scores[0]) > sure


def _cut_out(picture: Image.Image, box: np.ndarray) -> Image.Image:
    """The line, laid straight. box: clockwise from its upper left corner."""
    width, height = np.linalg.norm(box[1] - box[0]), np.linalg.norm(box[3] - box[0])
    corners = tuple(float(x) for corner in (box[0], box[3], box[2], box[1]) for x in corner)
    size = max(1, round(width)), max(1, round(height))
    return picture.transform(size, Image.Transform.QUAD, corners, Image.Resampling.BICUBIC)


def _bgr(picture: Image.Image) -> Pixels:
    """As OpenCV has it, and the reader expects it."""
    return np.ascontiguousarray(np.asarray(picture)[:, :, ::-1])


def _there() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in PACKAGES)


@lru_cache(maxsize=1)
def _reader() -> Any:
    """Loaded once. Imported by name, because without the extra there is nothing to import. One thread, so several
    processes do not compete for cores."""
    settings = {
        "Global.log_level": "critical",
        "Global.text_score": 0.5,
        "Det.limit_type": "max",
        "Det.limit_side_len": SIDE_READ,
        "EngineConfig.onnxruntime.intra_op_num_threads": 1,
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    }
    return importlib.import_module("rapidocr").RapidOCR(params=settings)


def _enlarged(pixels: Pixels, times: int) -> Image.Image:
    picture = Image.fromarray(pixels)
    if times == 1:
        return picture
    return picture.resize((picture.width * times, picture.height * times), Image.Resampling.LANCZOS)


def _height(box: np.ndarray) -> float:
    """The height of a quadrilateral, given clockwise from its upper left corner: the mean of its two upright sides."""
    return float((np.linalg.norm(box[3] - box[0]) + np.linalg.norm(box[2] - box[1])) / 2)


def _in_order(lines: list[tuple[np.ndarray, TextLine]]) -> list[TextLine]:
    """Boxes whose middles lie within half a height of a row's first one belong to that row."""
    rows: list[list[tuple[np.ndarray, TextLine]]] = []
    for each in sorted(lines, key=lambda pair: pair[0][:, 1].mean()):
        first = rows[-1][0] if rows else None
        if first is not None and each[0][:, 1].mean() - first[0][:, 1].mean() < first[1].height / 2:
            rows[-1].append(each)
        else:
            rows.append([each])
    return [line for row in rows for _, line in sorted(row, key=lambda pair: pair[0][:, 0].mean())]
