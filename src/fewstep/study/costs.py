"""The cost of a study, from its runs' records: minutes, rates, machines. It is kept apart from the results, because no
two runs of one study take the same time."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from fewstep.runtime import durable
from fewstep.study.folder import StudyFolder, open_study


def rates(folder: Path) -> dict[str, float]:
    """Median seconds per iteration by task, over all runs below `folder` that have any. This is a measured rate."""
    by_task: dict[str, list[float]] = {}
    for file in sorted(folder.glob("runs/*/metrics.jsonl")):
        for line in _trained(file):
            by_task.setdefault(line["task"], []).append(float(line["seconds"]["iteration"]))
    return {task: median(seconds) for task, seconds in sorted(by_task.items())}


def costs_markdown(folder: Path) -> str:
    """The costs of the study in `folder` as Markdown."""
    place, manifest = StudyFolder(folder), open_study(folder)
    rows, hours = [], 0.0
    for seed in manifest.seeds:
        for cell in manifest.plan.cells:
            name = manifest.run(cell, seed)
            lines = _trained(place.run(name) / "metrics.jsonl")
            if lines:
                seconds = [float(line["seconds"]["iteration"]) for line in lines]
                hours += sum(seconds) / 3600
                each = f"{median(seconds):.2f}"
                rows.append(f"| {name} | {len(lines):,} | {sum(seconds) / 60:.1f} | {each} | {_forwards(lines)} |")
    head = "| run | updates | training, minutes | seconds an update (median) | teacher forwards |"
    machine = sorted({words for name in _runs(place) for words in _machines(name)})
    return "\n".join(
        [
            f"# Cost of the study {manifest.plan.name}",
            "",
            f"{hours:.2f} hours of training in all; encoding and examination come on top.",
            "",
            *(f"- {words}" for words in machine),
            "",
            head,
            "| --- | ---: | ---: | ---: | --- |",
            *rows,
            "",
        ]
    )


def _trained(file: Path) -> list[dict[str, Any]]:
    return [line for line in durable.read_jsonl(file) if line.get("phase") == "distil" and "seconds" in line]


def _forwards(lines: Sequence[Mapping[str, Any]]) -> str:
    totals: dict[str, int] = {}
    for line in lines:
        for teacher, count in line["teacher_forwards"].items():
            totals[teacher] = totals.get(teacher, 0) + count
    return ", ".join(f"{teacher} {count:,}" for teacher, count in sorted(totals.items()))


def _runs(place: StudyFolder) -> list[Path]:
    return sorted(file.parent for file in place.folder.glob("runs/*/environment.json"))


def _machines(run: Path) -> list[str]:
    """One line for each kind of machine that a run was started on."""
    return [
        f"{start.get('device', 'unknown device')}, {start.get('processors')} processors, {start.get('platform')}, "
        f"torch {start.get('versions', {}).get('torch')}"
        for start in _starts(run)
    ]


def _starts(run: Path) -> list[dict[str, Any]]:
    try:
        return list(json.loads((run / "environment.json").read_text())["starts"])
    except (ValueError, KeyError, OSError):
        return []
