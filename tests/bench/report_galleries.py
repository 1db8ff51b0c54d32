"""Suites and galleries of known quality, as files on disk: pictures, verdicts and metrics, in milliseconds."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from fewstep.bench.drafts import DraftCase, SuiteHeading
from fewstep.bench.suite import Suite
from fewstep.bench.suite_files import write_suite
from fewstep.bench.suites import copy_into_gallery, read_suite

CATEGORIES = {
    "t2i": ("landscape", "portrait", "text"),
    "edit": ("scene", "perceptual", "object", "text", "identity", "style"),
}
CRITERIA = ("instruction_following", "source_preservation", "visual_quality")
PROMPTS = {
    "t2i": ("a red house by a lake", "an old sailor who laughs", "a shop sign that reads OPEN", "two lamps on a table"),
    "edit": ("make it night", "remove the grain", "put a boat on the lake", "let the sign read SHUT", "add a scarf"),
}
WORDS = (
    "The picture follows the prompt, but the lower left corner keeps grain that a clean sky should not have.",
    "Letters are legible and the order is right; the shadow falls on the wrong side of the object.",
    "The subject is there, its face drifts from the source, and the background was repainted without being asked.",
)
REFUSAL = "I cannot judge this picture."
Row = dict[str, Any]


@dataclass(frozen=True)
class Made:
    """What one gallery is to be. quality: about its mean score, 1 to 5. failures: case number -> why.
    refused: numbers of the pictures that the judges refuse. wordy: how often a judge repeats its reasoning."""

    system: str
    quality: float = 3.5
    judges: Sequence[str] = ("judge-a", "judge-b")
    metrics: bool = True
    pictures: bool = True
    size: int = 96
    failures: Mapping[int, str] = field(default_factory=dict)
    refused: Sequence[int] = ()
    wordy: int = 1


def suite(
    folder: Path, task: str = "t2i", cases: int = 12, seeds: int = 1, prompts: Mapping[int, str] | None = None
) -> Suite:
    """A suite of drawn sources, called made-t2i or made-edit. prompts: by case number, in place of the default ones."""
    drafts = [
        DraftCase(
            id=f"{task}-{i:04d}",
            prompt=(prompts or {}).get(i, f"{PROMPTS[task][i % len(PROMPTS[task])]}, number {i}"),
            category=CATEGORIES[task][i % len(CATEGORIES[task])],
            references=(drawn(i, 5.0, 48),) if task == "edit" else (),
        )
        for i in range(cases)
    ]
    write_suite(SuiteHeading(f"made-{task}", "1", task, seeds, license="CC0-1.0"), drafts, folder)  # type: ignore[arg-type]
    return read_suite(folder)


def gallery(folder: Path, of: Suite, made: Made) -> Path:
    """The gallery in `folder`, and the folder."""
    (folder / "pictures").mkdir(parents=True)
    copy_into_gallery(of, folder)
    heading = {
        "format": 1,
        "system": made.system,
        "suite": of.identity,
        "model": {
            "fingerprint": f"{made.system}-{'c3' * 8}",
            "sigmas": [1.0, 0.9, 0.75, 0.5],
            "guidance": 1.0,
            "nfe": 4,
        },
        "origin": "generated",
    }
    (folder / "gallery.json").write_text(json.dumps(heading))
    rows = list(_rows(of, made, folder))
    _write(folder / "manifest.jsonl", rows)
    drawn_rows = [(i, row) for i, row in enumerate(rows) if row["status"] == "drawn"]
    for judge in made.judges:
        _write(folder / "verdicts" / f"{judge}.jsonl", [_verdict(made, row, i, judge) for i, row in drawn_rows])
    if made.metrics:
        _write(folder / "metrics" / "flat_noise.jsonl", [_noise(made, row, i) for i, row in enumerate(rows)])
        _write(folder / "metrics" / "text.jsonl", [_text(made, row, i) for i, row in enumerate(rows)])
    return folder


def drawn(number: int, quality: float, side: int) -> Image.Image:
    """A sky, a ground and a house; noise in proportion to what is missing to a quality of 5."""
    chance = random.Random(number)
    picture = Image.new("RGB", (side, side), tuple(chance.randrange(60, 230) for _ in range(3)))
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, side * 2 // 3, side, side), fill=(70, 120, 60))
    left = chance.randrange(side // 8, side // 2) + round((5 - quality) * side / 60)
    pen.rectangle((left, side // 3, left + side // 3, side * 3 // 4), fill=(180, 60, 50))
    pen.ellipse((side // 10, side // 10, side // 4, side // 4), fill=(250, 220, 90))
    grain = Image.effect_noise((side, side), 40).convert("RGB")
    return Image.blend(picture, grain, max(0.0, (5 - quality) / 12))


def _rows(of: Suite, made: Made, folder: Path) -> Iterator[Row]:
    asked = [(number, q, k, seed) for number, q in enumerate(of.questions) for k, seed in enumerate(q.seeds)]
    for i, (number, question, k, seed) in enumerate(asked):
        case = question.case
        row: Row = {"case": case.id, "seed": seed, "k": k}
        row |= {"task": case.task, "prompt": case.prompt, "category": case.category}
        if number in made.failures:
            yield row | {"file": None, "status": "failed", "why": made.failures[number]}
            continue
        name = f"pictures/{i:06d}.png" if made.pictures else "pictures/one.png"
        if not (folder / name).exists():
            drawn(i, made.quality, made.size).save(folder / name)
        seconds = {"encode": 0.01, "denoise": 0.2 + 0.001 * (i % 7), "decode": 0.02}
        yield row | {
            "file": name,
            "status": "drawn",
            "nfe": 4,
            "seconds": seconds,
            "peak_mb": 900,
            "versions": {"torch": "2.13"},
        }


def _about(row: Row) -> Row:
    return {name: row[name] for name in ("case", "seed", "task", "category")}


def _verdict(made: Made, row: Row, i: int, judge: str) -> Row:
    chance = random.Random(f"{judge} {made.system} {i}")
    mood = random.Random(f"case {row['case']}").gauss(0, 0.5) + (0.3 if judge.endswith("b") else 0)
    record = _about(row) | {"key": f"{judge}{i:08x}", "judge": judge, "model": f"{judge}-2026-05", "repeat": 0}
    record |= {"protocol": f"{row['task']}-v1", "rung": "json_schema", "seconds": 1.2, "cost": 0.002}
    record |= {"tokens": {"input": 900, "output": 80}}
    if i in made.refused:
        return record | {"status": "refused", "score": None, "sub_scores": {}, "failure_modes": [], "why": REFUSAL}
    score = _within(made.quality + mood + chance.gauss(0, 0.4))
    subs = {name: _within(score + chance.gauss(0, 0.3)) for name in CRITERIA} if row["task"] == "edit" else {}
    modes = ["residual_noise"] if score < 3 else []
    explanation = {"reasoning": " ".join([WORDS[i % 3]] * made.wordy), "failure_modes": modes}
    return record | {"status": "ok", "score": score, "sub_scores": subs} | explanation


def _within(score: float) -> float:
    return round(min(5.0, max(1.0, score)), 2)


def _noise(made: Made, row: Row, i: int) -> Row:
    head = _about(row) | {"metric": "flat_noise", "version": "1"}
    if row["status"] != "drawn":
        return head | {"values": {}, "skipped": "no picture"}
    level = max(0.05, 5 - made.quality + random.Random(f"noise {made.system} {i}").gauss(0, 0.2))
    return head | {"values": {"luma": round(level, 4), "chroma": round(level / 3, 4)}, "skipped": None}


def _text(made: Made, row: Row, i: int) -> Row:
    head = _about(row) | {"metric": "text", "version": "1"}
    if row["category"] != "text" or row["status"] != "drawn":
        return head | {"values": {}, "skipped": "no picture" if row["status"] != "drawn" else "no text expected"}
    return head | {"values": {"word_f1": round(min(1.0, made.quality / 5 + 0.02 * (i % 5)), 3)}, "skipped": None}


def _write(path: Path, records: Sequence[Row]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
