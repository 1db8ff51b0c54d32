"""Galleries with pictures, verdicts and metrics of known quality, as files on disk, in milliseconds."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

T2I = {"name": "made-t2i", "version": "1", "hash": "a1" * 16}
EDIT = {"name": "made-edit", "version": "2", "hash": "b2" * 16}
CATEGORIES = {"t2i": ("landscape", "portrait", "text"), "edit": ("scene", "perceptual", "object", "text", "identity", "style")}
CRITERIA = ("instruction_following", "source_preservation", "visual_quality")
THINGS = ("a red house by a lake", "an old sailor who laughs", "a shop sign that reads OPEN", "two lamps on a blue table",
          "a ridge under heavy clouds", "a girl with a yellow scarf", "a poster with three lines of small letters")
WORDS = ("The picture follows the prompt, but the lower left corner keeps grain that a clean sky should not have.",
         "Letters are legible and the order is right; the shadow falls on the wrong side of the object.",
         "The subject is there, its face drifts from the source, and the background was repainted without being asked.")


@dataclass(frozen=True)
class Made:
    """What one gallery is to be. quality: its mean score, 1 to 5. failures: case number -> why."""

    system: str
    quality: float = 3.5
    suite: Mapping[str, str] = field(default_factory=lambda: T2I)
    task: str = "t2i"
    cases: int = 12
    seeds: int = 1
    judges: Sequence[str] = ("judge-a", "judge-b")
    metrics: bool = True
    pictures: bool = True
    size: int = 96
    failures: Mapping[int, str] = field(default_factory=dict)
    refused: Sequence[int] = ()
    prompts: Mapping[int, str] = field(default_factory=dict)


def write(folder: Path, made: Made) -> Path:
    """The gallery in `folder`, and the folder."""
    (folder / "pictures").mkdir(parents=True)
    records = list(_records(made))
    for index, record in enumerate(records):
        if made.pictures and record["status"] == "drawn":
            _drawn(made, index).save(folder / record["file"])
    head = {
        "format": 1,
        "system": made.system,
        "suite": dict(made.suite),
        "model": {"fingerprint": f"{made.system}-{'c3' * 8}", "sigmas": [1.0, 0.9, 0.75, 0.5], "guidance": 1.0, "nfe": 4},
        "origin": "generated",
    }
    (folder / "gallery.json").write_text(json.dumps(head))
    _lines(folder / "manifest.jsonl", records)
    for judge in made.judges:
        _lines(folder / "verdicts" / f"{judge}.jsonl", [_verdict(made, r, i, judge) for i, r in enumerate(records) if r["status"] == "drawn"])
    if made.metrics:
        _lines(folder / "metrics" / "flat_noise.jsonl", [_noise(made, r, i) for i, r in enumerate(records)])
        _lines(folder / "metrics" / "text.jsonl", [_text(made, r, i) for i, r in enumerate(records)])
    return folder


def _records(made: Made) -> Iterator[dict[str, Any]]:
    names = CATEGORIES[made.task]
    for case in range(made.cases):
        for k in range(made.seeds):
            index = case * made.seeds + k
            record = {"case": f"{made.task}-{case:04d}", "seed": 1000 + index, "k": k, "task": made.task}
            record |= {"prompt": made.prompts.get(case, f"{THINGS[case % len(THINGS)]}, number {case}"), "category": names[case % len(names)]}
            if case in made.failures:
                yield record | {"status": "failed", "why": made.failures[case]}
                continue
            record |= {"status": "drawn", "file": f"pictures/{made.system}-{index:06d}.png", "nfe": 4}
            yield record | {"seconds": {"encode": 0.01, "denoise": 0.2 + 0.001 * (index % 7), "decode": 0.02}, "peak_mb": 900}


def _verdict(made: Made, record: Mapping[str, Any], index: int, judge: str) -> dict[str, Any]:
    chance = random.Random(f"{judge} {made.system} {index}")
    shared = random.Random(f"case {record['case']}").gauss(0, 0.5)
    score = round(min(5.0, max(1.0, made.quality + shared + chance.gauss(0, 0.4) + (0.3 if judge.endswith("b") else 0))), 2)
    refused = index in made.refused
    record = {k: record[k] for k in ("case", "seed", "task", "category")}
    record |= {"key": f"{judge}{index:08x}", "judge": judge, "model": f"{judge}-2026-05", "protocol": "edit-v1", "repeat": 0}
    record |= {"rung": "json_schema", "seconds": 1.2, "tokens": {"prompt": 900, "completion": 80}, "cost": 0.002}
    if refused:
        return record | {"status": "refused", "score": None, "sub_scores": {}, "reasoning": "I cannot judge this picture.", "failure_modes": []}
    subs = {name: round(min(5.0, max(1.0, score + chance.gauss(0, 0.3))), 2) for name in CRITERIA} if made.task == "edit" else {}
    modes = ["residual_noise"] if score < 3 else []
    return record | {"status": "ok", "score": score, "sub_scores": subs, "reasoning": WORDS[index % 3], "failure_modes": modes}


def _noise(made: Made, record: Mapping[str, Any], index: int) -> dict[str, Any]:
    chance = random.Random(f"noise {made.system} {index}")
    head = {k: record[k] for k in ("case", "seed", "task", "category")} | {"metric": "flat_noise", "version": "1"}
    if record["status"] != "drawn":
        return head | {"values": {}, "skipped": "no picture"}
    level = max(0.05, 5 - made.quality + chance.gauss(0, 0.2))
    return head | {"values": {"luma": round(level, 4), "chroma": round(level / 3, 4)}, "skipped": None}


def _text(made: Made, record: Mapping[str, Any], index: int) -> dict[str, Any]:
    head = {k: record[k] for k in ("case", "seed", "task", "category")} | {"metric": "text", "version": "1"}
    if record["category"] != "text" or record["status"] != "drawn":
        return head | {"values": {}, "skipped": "no text expected" if record["status"] == "drawn" else "no picture"}
    return head | {"values": {"word_f1": round(min(1.0, made.quality / 5 + 0.02 * (index % 5)), 3)}, "skipped": None}


def _drawn(made: Made, index: int) -> Image.Image:
    """A sky, a ground and a house; noise in proportion to what is missing to a quality of 5."""
    side, chance = made.size, random.Random(index)
    tint = tuple(chance.randrange(60, 230) for _ in range(3))
    picture = Image.new("RGB", (side, side), tint)
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, side * 2 // 3, side, side), fill=(70, 120, 60))
    left, shift = chance.randrange(side // 8, side // 2), round((5 - made.quality) * side / 60)
    pen.rectangle((left + shift, side // 3, left + shift + side // 3, side * 3 // 4), fill=(180, 60, 50))
    pen.ellipse((side // 10, side // 10, side // 4, side // 4), fill=(250, 220, 90))
    grain = Image.effect_noise((side, side), 40).convert("RGB")
    return Image.blend(picture, grain, max(0.0, (5 - made.quality) / 12))


def _lines(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
