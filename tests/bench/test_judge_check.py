"""The canaries tell an honest judge from one that guesses and one that obeys what it is shown."""

import base64
import io
import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from fewstep.bench.canaries import Canary, all_canaries
from fewstep.bench.judge_check import canaries_hash
from fewstep.bench.pixels import pixel_hash
from fewstep.cli.main import app
from tests.bench.judged_gallery import edit_rated, judge_file, rated
from tests.endpoint.fault_server import Call, FaultServer, Sent, fails, says

Judge = Callable[[Canary], float]
BY_PIXELS = {(pixel_hash(canary.picture), canary.prompt): canary for canary in all_canaries()}


@cache
def pixels_of(address: str) -> str:
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as picture:
        return pixel_hash(picture)


def canary_of(call: Call) -> Canary:
    """Which canary a request shows: by its pixels and its prompt."""
    pixels, words = pixels_of(call.pictures()[-1]), call.texts()
    found = [
        canary for (shown_pixels, prompt), canary in BY_PIXELS.items() if shown_pixels == pixels and prompt in words
    ]
    return max(found, key=lambda canary: len(canary.prompt))


def answering(judge: Judge, model: str | None = None) -> Callable[[Call], Sent]:
    def script(call: Call) -> Sent:
        score = round(min(5.0, max(1.0, judge(canary_of(call)))), 2)
        edit = "sub_scores" in json.dumps(call.body["response_format"])
        return says(edit_rated(call, score) if edit else rated(score), model)(call)

    return script


def honest(canary: Canary) -> float:
    poor = 2.0 if canary.kind == "injection" else 0.0
    return 4.6 - 1.2 * canary.rank - poor + random.Random(canary.id).uniform(-0.2, 0.2) * (canary.kind != "injection")


def injectable(canary: Canary) -> float:
    return 5.0 if canary.variant == "demand" else honest(canary)


def checked(
    tmp_path: Path, script: Callable[[Call], Sent], *more: str, **keys: Any
) -> tuple[int, dict[str, Any], str, int]:
    """Exit code, figures, output and calls of one check."""
    with FaultServer(script) as server:
        file = judge_file(tmp_path, server, concurrency=4, **keys)
        words = ["judge", "check", "--judge", str(file), "--to", str(tmp_path / "checks"), *more]
        result = CliRunner().invoke(app, words)
    files = sorted((tmp_path / "checks").glob("[0-9][0-9][0-9].json"))
    figures = json.loads(files[-1].read_text())["figures"] if files else {}
    return result.exit_code, figures, " ".join(result.output.split()), len(server.calls)


def test_all_canaries() -> None:
    assert 55 <= len(all_canaries()) <= 65
    assert len({canary.id for canary in all_canaries()}) == len(all_canaries())
    assert {canary.kind for canary in all_canaries()} == {"quality", "text", "edit", "injection"}
    assert canaries_hash() == canaries_hash()
    for canary in all_canaries():
        assert bool(canary.references) == (canary.task == "edit")
    groups = {canary.group for canary in all_canaries()}
    for group in groups:
        contents = {(pixel_hash(c.picture), c.prompt) for c in all_canaries() if c.group == group}
        assert len(contents) == sum(c.group == group for c in all_canaries()), f"{group} shows the same thing twice"


def test_an_honest_judge_passes_until_it_drifts(tmp_path: Path) -> None:
    code, figures, output, calls = checked(tmp_path, answering(honest), "--keep")
    assert (code, calls) == (0, 2 * len(all_canaries()))
    assert "alarm" not in output
    assert figures["order"]["value"] == 1.0
    assert {kind: order["n"] for kind, order in figures["order_of"].items()} == {"quality": 15, "text": 15, "edit": 15}
    assert (figures["spread"], figures["valid"], figures["refused"], figures["lift"]["value"]) == (0.0, 1.0, 0.0, 0.0)

    code, _, output, calls = checked(tmp_path, answering(honest))
    assert (code, calls) == (0, 2 * len(all_canaries())), "a check asks anew"
    assert "held against check 1" in output

    code, _, output, _ = checked(tmp_path, answering(lambda canary: honest(canary) - 0.3, "seer-2027-01-01"))
    assert code == 1
    assert "scores moved by -0.3" in output
    assert "the server names seer-2027-01-01, and named seer" in output
    assert output.count("alarm:") == 2

    code, _, output, calls = checked(tmp_path, answering(honest), parameters={"temperature": 1})
    assert (code, calls) == (2, 0)
    assert "another model or parameters" in output
    (tmp_path / "checks" / "baseline.json").write_text("{}")
    code, _, output, calls = checked(tmp_path, answering(honest))
    assert (code, calls) == (2, 0)
    assert "no baseline" in output


def test_a_guessing_judge_is_found_out(tmp_path: Path) -> None:
    rng = random.Random(3)
    code, figures, output, _ = checked(tmp_path, answering(lambda canary: rng.uniform(1, 5)))
    assert code == 1
    assert "order accuracy" in output
    assert 0.1 < figures["order"]["value"] < 0.8  # which answer meets which canary depends on the order of arrival
    assert figures["spread"] > 0.5
    assert "demand" not in output.partition("alarm")[2] or figures["lift"]["value"] > 0.25


def test_an_obedient_judge_is_found_out(tmp_path: Path) -> None:
    code, figures, output, _ = checked(tmp_path, answering(injectable))
    assert code == 1
    assert figures["order"]["value"] == 1.0
    assert figures["lift"]["value"] > 2
    assert "follows orders" in output
    assert output.count("alarm:") == 1


def test_rambling_and_refusals_are_counted(tmp_path: Path) -> None:
    def script(call: Call) -> Sent:
        if call.number % 10 == 0:
            return says("I would say it is good")(call)
        if call.number % 10 == 1:
            return says(None, refusal="no")(call)
        return answering(honest)(call)

    code, figures, output, _ = checked(tmp_path, script)
    calls = 2 * len(all_canaries())
    refused, invalid = len(range(1, calls, 10)), len(range(0, calls, 10))
    assert code == 1
    assert figures["refused"] == pytest.approx(refused / calls)
    assert figures["valid"] == pytest.approx(1 - invalid / (calls - refused))
    assert figures["unscored"] == refused + invalid
    assert "JSON" in output


def test_a_stopped_check_goes_on(tmp_path: Path) -> None:
    def script(call: Call) -> Sent:
        return (fails(401, "no") if call.number >= 50 else answering(honest))(call)

    code, figures, _, calls = checked(tmp_path, script)
    assert (code, figures) == (2, {})
    assert calls >= 51
    code, figures, _, rest = checked(tmp_path, answering(honest))
    assert (code, rest) == (0, 2 * len(all_canaries()) - 50)
    assert figures["order"]["value"] == 1.0
