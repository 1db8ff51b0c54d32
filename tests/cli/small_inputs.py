"""Small inputs for commands that need no model: cases, a judge's declaration, two judged galleries. They are made with
the command line and written in its file formats."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from fewstep.cli.main import app

SUITE = "pocket-t2i@6"
SCORES = {"one": (4, 4, 3, 5, 4, 4), "other": (3, 4, 2, 3, 3, 4)}  # of each system's pictures
NOISE = {"one": 1.5, "other": 2.5}  # 8-bit levels


@dataclass(frozen=True)
class SmallInputs:
    """Where they lie. mistyped: a recipe file with a key that there is not. cache: of shipped suites, FEWSTEP_CACHE."""

    folder: Path
    cache: Path
    cases: Path
    recipe: Path
    mistyped: Path
    judge: Path
    galleries: tuple[Path, Path]


def small_inputs(folder: Path) -> SmallInputs:
    cache, cases = folder / "cache", folder / "cases.jsonl"
    _write(cases, [{"id": f"c{i}", "prompt": f"a red house, number {i}", "category": "landscape"} for i in range(4)])
    recipe = folder / "recipe.yaml"
    recipe.write_text(f"extends: pocket\ntasks: {{t2i: 1, edit: 0}}\ndata: {{t2i: [{{source: {cases}}}], edit: []}}\n")
    mistyped = folder / "mistyped.yaml"
    mistyped.write_text("extends: pocket\nrun: {iteration: 3}\n")
    judge = folder / "judge.toml"
    judge.write_text('base_url = "http://127.0.0.1:9/v1"\nmodel = "seer"\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWSTEP_CACHE", str(cache))
        one, other = (_gallery(folder / name, folder / "pictures", cache) for name in SCORES)
    return SmallInputs(folder, cache, cases, recipe, mistyped, judge, (one, other))


def _gallery(folder: Path, pictures: Path, cache: Path) -> Path:
    _fewstep("bench", "check", SUITE)
    [suite] = (cache / "suites").glob("pocket-t2i*/cases.jsonl")
    pictures.mkdir(exist_ok=True)
    for case in _read(suite):
        Image.new("RGB", (64, 64), "teal").save(pictures / f"{case['id']}.png")
    _fewstep("bench", "adopt", pictures, "--suite", SUITE, "--to", folder, "--system", folder.name)
    rows = [
        {name: row[name] for name in ("case", "seed", "task", "category")} for row in _read(folder / "manifest.jsonl")
    ]
    for judge in ("judge-a", "judge-b"):
        said = {"judge": judge, "model": judge, "repeat": 0, "protocol": "t2i-v1", "rung": "json_schema"}
        said |= {"status": "ok", "sub_scores": {}, "reasoning": "It follows the prompt.", "failure_modes": []}
        scored = zip(rows, SCORES[folder.name], strict=True)
        verdicts = [row | said | {"key": f"{judge}-{row['case']}", "score": score} for row, score in scored]
        _write(folder / "verdicts" / f"{judge}.jsonl", verdicts)
    level = {"metric": "flat_noise", "version": "1", "values": {"luma": NOISE[folder.name]}, "skipped": None}
    _write(folder / "metrics" / "flat_noise.jsonl", [row | level for row in rows])
    return folder


def _fewstep(*words: str | Path) -> None:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output


def _read(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def _write(file: Path, records: Sequence[object]) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
