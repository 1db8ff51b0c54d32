"""A pass over a gallery, from the command line, against a real server: what is asked, what is kept, what is not."""

import json
import os
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import Result

from fewstep.bench.attempts import Attempts
from fewstep.bench.gallery import Gallery
from fewstep.bench.verdict import read_verdicts
from fewstep.runtime import durable
from fewstep.runtime.errors import JudgeError
from tests.bench.judged_gallery import edit_rated, gallery, honest, judge_file, rated, rows
from tests.cli.command_line import fewstep, refused
from tests.endpoint.fault_server import Call, FaultServer, Script, Sent, fails, hangs, page, raw, says


def judged(folder: Path, file: Path, verb: str = "run", *more: str) -> Result:
    result = fewstep("judge", verb, folder, "--judge", file, *more)
    assert result.exit_code == 0, result.output
    return result


def attempts(folder: Path, judge: str = "seer") -> list[dict[str, Any]]:
    return list(durable.read_jsonl(folder / "verdicts" / f"{judge}.attempts.jsonl"))


def test_each_picture_is_asked_about_once_and_resuming_asks_nothing(tmp_path: Path) -> None:
    folder = gallery(tmp_path / "g", cases=7)
    with FaultServer(says(rated(4.25), "seer-2026-01-05")) as server:
        file = judge_file(tmp_path, server, price={"input": 1.0, "output": 2.0})
        judged(folder, file)
        judged(folder, file)
    assert len(server.calls) == len(attempts(folder)) == 7
    verdicts = read_verdicts(folder)["seer"]
    assert {(v.case, v.seed) for v in verdicts} == {(row["case"], row["seed"]) for row in rows(folder)}
    assert {(v.status, v.score, v.model, v.protocol, v.rung) for v in verdicts} == {
        ("ok", 4.25, "seer-2026-01-05", "t2i-v1", "json_schema")
    }
    assert sum(v.cost or 0 for v in verdicts) == pytest.approx(7 * (1000 * 1e-6 + 100 * 2e-6))


def test_what_was_sent_is_recorded(tmp_path: Path) -> None:
    folder = gallery(tmp_path / "g", cases=1, task="edit", side=64)
    with FaultServer(honest) as server:
        judged(folder, judge_file(tmp_path, server, max_side=32))
    [line], [call] = attempts(folder), server.calls
    assert [(p["size"], p["sent"]) for p in line["sent"]] == [([64, 64], [32, 32])] * 2
    assert len(call.pictures()) == 2
    assert all(address.startswith("data:image/png;base64,iVBOR") for address in call.pictures())
    assert line["text"] == edit_rated(call)
    assert (line["tries"], line["finish"], line["rubric"]) == (1, "stop", "scene")


def test_an_edit_pass_has_every_rubric(tmp_path: Path) -> None:
    folder = gallery(tmp_path / "g", cases=7, task="edit", categories=["scene", "text", "identity", "background"])
    with FaultServer(honest) as server:
        result = judged(folder, judge_file(tmp_path, server))
    verdicts = read_verdicts(folder)["seer"]
    assert Counter(v.rubric for v in verdicts) == {"scene": 2, "text": 2, "identity": 2, "general": 1}
    assert "general rubric" in result.output
    assert all("text_accuracy" in v.sub_scores for v in verdicts if v.category == "text")


def test_half_a_character_in_an_answer_loses_nothing(tmp_path: Path) -> None:
    """JSON can hold lone surrogates; files cannot."""
    folder = gallery(tmp_path / "g", cases=3)
    scripts = [says('{"score": 3, "reasoning": "\\ud83d oh"}'), says("\ud83d oh"), says('{"\\ud83d": 1}')]
    with FaultServer(scripts) as server:
        judged(folder, judge_file(tmp_path, server))
    assert Counter(v.status for v in read_verdicts(folder)["seer"]) == {"ok": 1, "invalid": 2}


def completion(message: dict[str, Any], finish: str = "stop", **more: Any) -> Script:
    """A chat completion with this message, as the server writes it."""
    told = {"model": "seer", "choices": [{"index": 0, "message": message, "finish_reason": finish}], **more}
    return raw(json.dumps(told).encode())


FINE = '{"score": 4.25, "reasoning": "fine"}'
# As servers send them (DeepSeek and vLLM, OpenRouter, ...), with the status and a word of why.
BODIES: dict[str, tuple[Script, str, str]] = {
    "reasoning_content": (completion({"content": None, "reasoning_content": FINE}), "failed", "in reasoning_content"),
    "reasoning": (completion({"content": "", "reasoning": FINE}), "failed", "its answer in reasoning and"),
    "reasoning, cut": (completion({"content": None, "reasoning": "hm"}, "length"), "truncated", "in its reasoning"),
    "20 digits": (completion({"content": '{"score": 99999999999999999999, "reasoning": ""}'}), "out_of_range", "1e+20"),
    "5,000 digits": (
        completion({"content": f'{{"score": {"9" * 5_000}, "reasoning": ""}}'}), "out_of_range", "beyond all bounds"
    ),
    "cut": (completion({"content": '{"score": 4, "reas'}, "length"), "truncated", "raise max_tokens"),
    "refusal": (completion({"content": None, "refusal": "no"}), "refused", "no"),
    "fence": (completion({"content": f"```json\n{FINE}\n```"}), "ok", ""),
    "thoughts beside it": (completion({"content": FINE, "reasoning_content": "hm"}), "ok", ""),
    "nested answer": (completion({"content": "[" * 3_000}), "invalid", "nested without end"),
    "nested score": (completion({"content": f'{{"score": {"[" * 3_000}'}), "invalid", "nested without end"),
    "nested body": (raw(b'{"choices": ' + b"[" * 3_000 + b"]" * 3_000 + b"}"), "failed", "nested without end"),
    "NaN": (completion({"content": '{"score": NaN, "reasoning": ""}'}), "invalid", "NaN is no JSON"),
    "Infinity in the body": (completion({"content": FINE}, usage={"prompt_tokens": float("inf")}), "ok", ""),
    "5,000 digits in the body": (
        raw(json.dumps({"choices": [{"message": {"content": FINE}}]})[:-1].encode() + b', "n": ' + b"7" * 5_000 + b"}"),
        "ok",
        "",
    ),
    "half a character": (completion({"content": '{"score": 3, "reasoning": "\\ud83d"}'}), "ok", ""),
    "half a character as a key": (completion({"content": '{"\\ud83d": 3}'}), "invalid", "lacks"),
    "nothing": (completion({"content": ""}), "invalid", "empty"),
}  # fmt: skip


def test_whatever_a_server_sends_is_counted_and_costs_no_other_answer(tmp_path: Path) -> None:
    folder = gallery(tmp_path / "g", cases=len(BODIES))
    with FaultServer([script for script, _, _ in BODIES.values()]) as server:
        judged(folder, judge_file(tmp_path, server, concurrency=1, give_up_after=100))
    assert len(server.calls) == len(BODIES), "each question is asked, once"
    lines = attempts(folder)
    for (name, (_, status, why)), line in zip(BODIES.items(), lines, strict=True):
        assert line["status"] == status, (name, line)
        assert why in (line["why"] or ""), (name, line)
    assert "turn reasoning off" in lines[0]["why"]
    found = Counter(verdict.status for verdict in read_verdicts(folder)["seer"])
    assert found == Counter(status for _, status, _ in BODIES.values())


def test_a_score_that_can_be_read_but_not_shown_is_invalid(tmp_path: Path) -> None:
    """Nested as deeply as Python just reads: what shows it in a message must not fall over it."""
    folder = gallery(tmp_path / "g", cases=20)
    deep = [completion({"content": f'{{"score": {"[" * n}{"]" * n}, "reasoning": ""}}'}) for n in range(840, 1020, 9)]
    with FaultServer(deep) as server:
        judged(folder, judge_file(tmp_path, server, concurrency=1, give_up_after=100))
    assert [line["status"] for line in attempts(folder)] == ["invalid"] * 20


def test_keys_are_pixels_not_paths(tmp_path: Path) -> None:
    """Moved, and saved again with other bytes: nothing is asked. One pixel changed: that picture is - drawn again, for
    a file whose pixels are not those it is named after is no picture of the gallery."""
    folder = gallery(tmp_path / "g", cases=4)
    with FaultServer(says(rated())) as server:
        file = judge_file(tmp_path, server)
        judged(folder, file)
        moved = tmp_path / "elsewhere"
        shutil.move(folder, moved)
        pictures = [Gallery(moved).path(row["case"], row["seed"]) for row in rows(moved)]
        for path in pictures:
            with Image.open(path) as picture:
                picture.convert("RGB").save(path, compress_level=0)
        judged(moved, file)
        assert len(server.calls) == 4
        with Image.open(pictures[2]) as picture:
            changed = picture.convert("RGB")
        changed.putpixel((0, 0), (1, 2, 3))
        whole = pictures[2].read_bytes()
        changed.save(pictures[2])
        refused(fewstep("judge", "run", moved, "--judge", file), pictures[2].name, "not the picture that it is named")
        assert len(server.calls) == 4
        pictures[2].write_bytes(whole)
        row = rows(moved)[2]
        Gallery(moved).add(row["case"], row["seed"], changed, {"prompt": row["prompt"]})
        judged(moved, file)
        assert len(server.calls) == 5
    assert len(read_verdicts(moved)["seer"]) == 4


def test_one_picture_for_two_cases_with_one_prompt_is_one_question(tmp_path: Path) -> None:
    folder = gallery(tmp_path / "g", cases=2)
    first = rows(folder)[0]
    made = Gallery(folder)
    twin = made.picture(first["case"], first["seed"])
    made.add(first["case"], first["seed"] + 1, twin, {"prompt": first["prompt"]})
    with FaultServer(says(rated())) as server:
        judged(folder, judge_file(tmp_path, server, price={"input": 1.0}))
    assert len(server.calls) == 2
    verdicts = read_verdicts(folder)["seer"]
    assert len(verdicts) == 3
    assert sum(v.cost or 0 for v in verdicts) == pytest.approx(2e-3)


def test_repeats_are_further_questions(tmp_path: Path) -> None:
    folder = gallery(tmp_path / "g", cases=3)
    with FaultServer(says(rated())) as server:
        judged(folder, judge_file(tmp_path, server))
        judged(folder, judge_file(tmp_path, server, repeats=3))
    assert len(server.calls) == 9
    assert Counter(v.repeat for v in read_verdicts(folder)["seer"]) == {0: 3, 1: 3, 2: 3}


BAD: dict[str, Script] = {
    "refused": says(None, refusal="no"),
    "invalid": says("It is lovely, 5 out of 5."),
    "out_of_range": says(rated(9.0)),
    "truncated": says('{"score": 4.0, "reas', finish="length"),
    "failed": lambda call: Sent(200, (b'{"choices": []}',)),
}


@pytest.mark.parametrize("status", BAD)
def test_bad_answers_are_never_numbers_and_retry_asks_only_them(tmp_path: Path, status: str) -> None:
    folder = gallery(tmp_path / "g", cases=5)
    bad = {"prompt number 1", "prompt number 3"}

    def script(call: Call) -> Sent:
        poor = len(server.calls) <= 5 and any(f"\n{prompt}\n" in call.texts() for prompt in bad)
        return (BAD[status] if poor else says(rated(2.5)))(call)

    with FaultServer(script) as server:
        file = judge_file(tmp_path, server)
        judged(folder, file)
        first = {v.case: v for v in read_verdicts(folder)["seer"]}
        assert Counter(v.status for v in first.values()) == {"ok": 3, status: 2}
        assert {v.score for v in first.values() if v.status != "ok"} == {None}
        judged(folder, file)
        assert len(server.calls) == 5
        judged(folder, file, "retry", "--only", "refused" if status != "refused" else "failed")
        assert len(server.calls) == 5
        judged(folder, file, "retry", "--only", status)
        assert len(server.calls) == 7
        judged(folder, file, "retry")
    assert len(server.calls) == 7
    assert [v.score for v in read_verdicts(folder)["seer"]] == [2.5] * 5


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_denial_ends_the_pass_at_once_and_loses_nothing(tmp_path: Path, status: int) -> None:
    folder = gallery(tmp_path / "g", cases=6)
    with FaultServer([says(rated()), says(rated()), fails(status, "the seer is out")]) as server:
        file = judge_file(tmp_path, server, concurrency=1)
        refused(fewstep("judge", "run", folder, "--judge", file), str(status), "the seer is out")
    assert len(server.calls) == 3
    assert [line["status"] for line in attempts(folder)] == ["ok", "ok", "stopped"]
    assert len(read_verdicts(folder)["seer"]) == 2
    with FaultServer(says(rated())) as server:
        judged(folder, judge_file(tmp_path, server, concurrency=1))
        assert len(server.calls) == 4
        denied = attempts(folder)[2]["key"]
        assert attempts(folder)[-1]["key"] == denied, "the denied question is asked last"


def test_a_judge_that_never_answers_as_asked_is_given_up(tmp_path: Path) -> None:
    folder = gallery(tmp_path / "g", cases=9)
    with FaultServer(says("What a lovely picture!")) as server:
        file = judge_file(tmp_path, server, concurrency=1, give_up_after=4)
        refused(fewstep("judge", "run", folder, "--judge", file), "none of the first 4", "invalid", "retry")
        assert len(server.calls) == 4
        judged(folder, file, "retry")
    assert len(server.calls) == 8
    assert {v.status for v in read_verdicts(folder)["seer"]} == {"invalid"}


def test_another_models_answer_is_paid_for_and_no_verdict(tmp_path: Path) -> None:
    folder = gallery(tmp_path / "g", cases=3)
    with FaultServer(says(rated(), "oracle")) as server:
        file = judge_file(tmp_path, server, concurrency=1, price={"input": 1000.0})
        refused(fewstep("judge", "run", folder, "--judge", file), "oracle", "answers_as")
    assert [(line["status"], line["cost"]) for line in attempts(folder)] == [("stopped", 1.0)]
    assert not read_verdicts(folder), "no verdict, no file"


def test_a_pass_that_met_every_fault_ends_whole(tmp_path: Path) -> None:
    folder = gallery(tmp_path / "g", cases=8)
    faults: list[Script] = [fails(429, retry_after="0.05"), fails(500), hangs(5), page(502), fails(503)]
    with FaultServer([*faults, says(rated())]) as server:
        judged(folder, judge_file(tmp_path, server, concurrency=1, timeout_s=1.5))
    assert len(server.calls) == 8 + len(faults)
    assert [line["status"] for line in attempts(folder)] == ["ok"] * 8


def test_the_budget_stops_hard_and_counts_earlier_runs(tmp_path: Path) -> None:
    folder = gallery(tmp_path / "g", cases=9)
    price = {"input": 1000.0}  # 1 a call
    with FaultServer(says(rated())) as server:
        file = judge_file(tmp_path, server, price=price, budget=4.0, concurrency=3)
        for _ in range(2):
            refused(fewstep("judge", "run", folder, "--judge", file), "budget")
            assert len(server.calls) == 4
        assert len(read_verdicts(folder)["seer"]) == 4
        judged(folder, judge_file(tmp_path, server, price=price, budget=9.0, concurrency=3))
    assert len(server.calls) == 9


def test_a_dry_run_prices_and_asks_nothing(tmp_path: Path) -> None:
    folder = gallery(tmp_path / "g", cases=30, side=64)
    price = {"input": 1000.0, "output": 1000.0}
    with FaultServer(says(rated(), usage=(500, 50))) as server:
        file = judge_file(tmp_path, server, price=price, budget=10.0, key_env="NOT_SET_ANYWHERE")
        output = judged(folder, file, "run", "--dry-run").output
        assert not server.calls
        assert not (folder / "verdicts").exists()
        assert "guessed" in output
        assert "not enough" in output
        file = judge_file(tmp_path, server, price=price)
        judged(folder, file, "run", "--limit", "20")
        output = judged(folder, file, "run", "--dry-run").output
    assert len(server.calls) == 20
    assert "5,000 (from this judge's answers" in output, output
    assert "5.50" in output


def test_a_part_is_the_same_part_for_every_system(tmp_path: Path) -> None:
    a, b = gallery(tmp_path / "a", cases=30), gallery(tmp_path / "b", cases=30, system="other", first=500)
    with FaultServer(says(rated())) as server:
        for folder in (a, b):
            judged(folder, judge_file(tmp_path, server), "run", "--limit", "12")
    cases = [{(v.case, v.category) for v in read_verdicts(folder)["seer"]} for folder in (a, b)]
    assert cases[0] == cases[1]
    assert {category for _, category in cases[0]} == {"landscape", "portrait", "text"}


def test_one_name_is_one_judge(tmp_path: Path) -> None:
    folder = gallery(tmp_path / "g", cases=2)
    with FaultServer(says(rated())) as server:
        judged(folder, judge_file(tmp_path, server))
        file = judge_file(tmp_path, server, parameters={"temperature": 1.0})
        refused(fewstep("judge", "run", folder, "--judge", file), "other parameters", "name")
        judged(folder, judge_file(tmp_path, server, parameters={"temperature": 1.0}, name="warm"))
        judged(folder, judge_file(tmp_path, server), "run", "--protocol", "reason-first-v1")
    assert set(read_verdicts(folder)) == {"seer", "warm", "seer@reason-first-v1"}


def test_two_passes_at_once_are_refused(tmp_path: Path) -> None:
    folder = gallery(tmp_path / "g", cases=2)
    (folder / "verdicts").mkdir()
    with FaultServer(says(rated())) as server, Attempts(folder / "verdicts" / "seer.attempts.jsonl"):
        refused(fewstep("judge", "run", folder, "--judge", judge_file(tmp_path, server)), "another pass")
    assert not server.calls


def test_a_torn_last_line_is_asked_again_and_nothing_else(tmp_path: Path) -> None:
    folder = gallery(tmp_path / "g", cases=4)
    with FaultServer(says(rated())) as server:
        file = judge_file(tmp_path, server)
        judged(folder, file)
        path = folder / "verdicts" / "seer.attempts.jsonl"
        os.truncate(path, path.stat().st_size - 30)
        assert "1 cut off in" in judged(folder, file).output
        lines = path.read_text().splitlines()
        path.write_text("\n".join([lines[0][:50], *lines[1:]]) + "\n")
        refused(fewstep("judge", "run", folder, "--judge", file), "seer.attempts.jsonl:1", "no attempt of a judge")
        for edit in ('"score": 99', '"score": "4"'):
            path.write_text("\n".join([*lines[:-1], re.sub(r'"score": [0-9.]+', edit, lines[-1], count=1)]) + "\n")
            place = f"seer.attempts.jsonl:{len(lines)}"
            refused(fewstep("judge", "run", folder, "--judge", file), place, "score is")
        path.write_text("\n".join(lines) + "\n")
    assert len(server.calls) == 5
    assert len(read_verdicts(folder)["seer"]) == 4


def test_bad_input_is_refused_before_anything_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = gallery(tmp_path / "g", cases=3)
    monkeypatch.delenv("SEER_KEY", raising=False)
    with FaultServer(says(rated())) as server:
        for words, keys, more in (
            (("SEER_KEY",), {"key_env": "SEER_KEY"}, ()),
            (("conccurrency", "did you mean concurrency"), {"conccurrency": 3}, ()),
            (("edit-v1 is not for t2i",), {}, ("--protocol", "edit-v1")),
            (("no protocol 'mine'",), {}, ("--protocol", "mine")),
        ):
            file = judge_file(tmp_path, server, **keys)
            refused(fewstep("judge", "run", folder, "--judge", file, *more), *words)
        file = judge_file(tmp_path, server)
        refused(fewstep("judge", "retry", folder, "--judge", file, "--only", "bad"), "truncated")
        refused(fewstep("judge", "run", tmp_path / "nowhere", "--judge", file), "nowhere", "gallery")
        refused(fewstep("judge", "run", folder, "--judge", tmp_path / "none.toml"), "none.toml")
        picture = Gallery(folder).path(rows(folder)[1]["case"], rows(folder)[1]["seed"])
        os.truncate(picture, 200)
        refused(fewstep("judge", "run", folder, "--judge", file), "c00001", picture.name)
    assert not server.calls
    assert not (folder / "verdicts").exists()


def test_a_picture_of_an_unknown_case_is_named(tmp_path: Path) -> None:
    folder = gallery(tmp_path / "g", cases=2)
    Gallery(folder).add("foreign-case", 1, Image.new("RGB", (16, 16)), {})
    refused(fewstep("judge", "run", folder, "--judge", judge_file(tmp_path, "http://127.0.0.1:9/v1")), "foreign-case")


def test_a_verdict_that_is_no_verdict_is_refused(tmp_path: Path) -> None:
    """A failure with a number is the one thing that may never be read."""
    folder = gallery(tmp_path / "g", cases=1)
    with FaultServer(says(rated())) as server:
        judged(folder, judge_file(tmp_path, server))
    path = folder / "verdicts" / "seer.jsonl"
    record = json.loads(path.read_text())
    for changes in ({"status": "refused"}, {"score": None}, {"status": "lost", "score": None}):
        path.write_text(json.dumps(record | changes))
        with pytest.raises(JudgeError, match="no verdict"):
            read_verdicts(folder)
