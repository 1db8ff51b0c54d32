"""Text in pictures, read by rapidocr with the models that its package bundles: no network. The extra `ocr`."""

import importlib
import importlib.metadata
import importlib.util
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


@dataclass(frozen=True)
class TextLine:
    """height: of its box, in px of the picture; sure: the reader's own confidence, 0..1."""

    text: str
    height: float
    sure: float


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
    found = _reader()(np.asarray(_enlarged(pixels, times))[:, :, ::-1])  # it expects BGR, as OpenCV has it
    if found.txts is None:
        return []
    boxes = [np.asarray(box, dtype=np.float64) / times for box in found.boxes]
    lines = [
        (box, TextLine(text, _height(box), float(sure)))
        for box, text, sure in zip(boxes, found.txts, found.scores, strict=True)
    ]
    return _in_order(lines)


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
