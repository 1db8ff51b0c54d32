"""Galleries that an older version drew, judged and measured: read without asking or measuring again, and with the same
figures where it is done anew."""

import json
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.compatibility.held import FIXTURES, PRINTED, REPORT, SIX, TWO, alike, fewstep, page_text, records, same_text

FIGURES = FIXTURES / "figures"
METRICS = "sanity,flat_noise,preserve,diversity,tone,latency"  # text needs a reader that is not always there


def skip_with_other_readers() -> None:
    for name, version in json.loads((FIGURES / "readers.json").read_text()).items():
        pytest.importorskip(name)
        if metadata.version(name) != version:
            pytest.skip(f"{name} is not {version}, so words are read again")


def contents(folder: str) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(Path(folder).rglob("*")) if file.is_file()}


@pytest.mark.parametrize("name", PRINTED)
def test_the_same_is_printed(name: str, copy: Path) -> None:
    if name.startswith("measure"):
        skip_with_other_readers()
    words, before = PRINTED[name], contents("galleries")
    result = fewstep(*words)
    assert result.exit_code == json.loads((FIGURES / "exits.json").read_text())[name], result.output
    assert same_text(result.output, (FIGURES / name).read_text()), result.output
    if "--json" in words:
        found, held = (json.loads((place / words[-1]).read_text()) for place in (copy, FIGURES))
        assert alike(found, held)
    after = contents("galleries")
    assert {file: after.get(file) for file in before} == before
    assert {Path(file).name for file in after.keys() - before.keys()} <= {"against-2-steps.json"}


def test_the_report_says_the_same(copy: Path) -> None:
    result = fewstep(*REPORT)
    assert result.exit_code == 0, result.output
    assert same_text(page_text(Path("report/index.html")), (FIGURES / "report.txt").read_text())


def test_the_probe_judges_as_it_did(copy: Path) -> None:
    shutil.rmtree(f"{TWO}/verdicts")
    assert fewstep("pocket", "judge", TWO).exit_code == 0
    assert_same_records(f"{TWO}/verdicts/probe.jsonl")


def test_metrics_measure_as_they_did(copy: Path) -> None:
    shutil.rmtree(f"{SIX}/metrics")
    result = fewstep("bench", "measure", SIX, "--workers", "1", "--metrics", METRICS)
    assert result.exit_code == 0, result.output
    for name in METRICS.split(","):
        assert_same_records(f"{SIX}/metrics/{name}.jsonl")


def test_a_judge_that_was_stopped_is_asked_only_what_is_left(copy: Path) -> None:
    """Its server is away: where a question is left it says so, and where none is it needs no server."""
    attempts = Path(SIX, "verdicts/seer.attempts.jsonl")
    kept = attempts.read_text().splitlines(keepends=True)
    Path(SIX, "verdicts/seer.jsonl").unlink()
    again = fewstep("judge", "run", SIX, "--judge", "seer.yaml")
    assert again.exit_code == 0, again.output
    assert_same_records(f"{SIX}/verdicts/seer.jsonl")
    assert attempts.read_text() == "".join(kept)

    attempts.write_text("".join(kept[:-1]))
    dry = fewstep("judge", "run", SIX, "--judge", "seer.yaml", "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert " 1 " in dry.output


def test_drawn_galleries_are_known_as_whole(copy: Path) -> None:
    held = contents(SIX)
    for suite in (f"{SIX}/suite", f"{TWO}/suite"):
        assert fewstep("bench", "check", suite).exit_code == 0
    drawing = ("--suite", f"{SIX}/suite", "--steps", "6", "--device", "cpu", "--dtype", "fp32", "--system", "6-steps")
    result = fewstep("generate", "pocket", *drawing, "--to", SIX)
    assert result.exit_code == 0, result.output
    assert contents(SIX) == held


def assert_same_records(file: str) -> None:
    found, held = records(Path(file)), records(FIXTURES / file)
    assert [list(line) for line in found] == [list(line) for line in held]
    for line, other in zip(found, held, strict=True):
        assert alike(line, other, least=1e-5), shown_difference(line, other)


def shown_difference(line: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {key: (line[key], other[key]) for key in line if not alike(line[key], other[key], least=1e-5)}
