"""Whatever the input: cases or messages, no traceback, and no picture dropped without a word."""

from pathlib import Path

from fewstep.data.convert import convert
from tests.cli.command_line import fewstep
from tests.data.made_files import packed, png
from tests.data.malformed import malformed, place_of, told_and_used

COUNT = 120


def test_every_picture_is_in_use_or_named(tmp_path: Path) -> None:
    outcomes = {"used": 0, "named": 0}
    for seed in range(COUNT):
        folder = tmp_path / str(seed)
        folder.mkdir()
        path, pictures = malformed(seed, folder)
        messages, used, whole = told_and_used(path, folder / "unpacked")
        messages.encode()
        for name, content in pictures.items():
            named = whole or any(place in messages for place in place_of(name, path))
            assert content in used or named, (seed, name, messages)
            outcomes["used" if content in used else "named"] += 1
    assert min(outcomes.values()) > 20, outcomes


def test_the_command_line_ends_with_0_or_2(tmp_path: Path) -> None:
    codes = set()
    for seed in range(COUNT, COUNT + 24):
        folder = tmp_path / str(seed)
        folder.mkdir()
        path, _ = malformed(seed, folder)
        for words in (("check", path), ("convert", path, "--to", folder / "out.jsonl")):
            result = fewstep("cases", *words)
            assert result.exit_code in (0, 2), (seed, words, result.output)
            assert "Traceback" not in result.output, (seed, words)
            codes.add(result.exit_code)
        if (folder / "out.jsonl").exists():
            convert(str(folder / "out.jsonl"), folder / "again.jsonl")
            assert (folder / "again.jsonl").read_text() == (folder / "out.jsonl").read_text()
    assert codes == {0, 2}


def test_check_prints_twenty_problems_of_a_file_and_a_count(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text('{"score": 1}\n' * 33 + '{"prompt": "a", "score": 1}\n')
    result = fewstep("cases", "check", tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert result.exit_code == 2
    assert result.output.count("no prompt") == 40
    assert result.output.count("... and 13 more") == 2
    assert "'score' (2)" in result.output


def test_problems_are_counted_by_kind_and_all_written_on_request(tmp_path: Path) -> None:
    lines = ['{"prompt": ""}', '{"id": "x1", "prompt": "a"', '{"prompt": "a", "width": 99999999, "height": 64}']
    (tmp_path / "a.jsonl").write_text("".join(f"{lines[i % 3]}\n" for i in range(300)))
    result = fewstep("cases", "check", tmp_path / "a.jsonl")
    assert result.exit_code == 2
    assert len(result.output.splitlines()) < 40
    assert "... and 280 more; all by kind" in result.output
    assert result.output.count("100 x ") == 3
    assert "--problems FILE" in result.output
    result = fewstep("cases", "check", tmp_path / "a.jsonl", "--problems", tmp_path / "all.txt")
    assert result.exit_code == 2
    told = (tmp_path / "all.txt").read_text().splitlines()
    assert len(told) == 300
    assert told[299].startswith(f"{tmp_path / 'a.jsonl'}:300: ")
    assert "300 problems in" in result.output


def test_the_place_of_a_sample_is_printed_as_it_is(tmp_path: Path) -> None:
    packed(tmp_path / "s.tar", {"a.txt": b"a fox", "a.png": png("red"), "a.jpg": png("blue")})
    result = fewstep("cases", "check", tmp_path / "s.tar")
    assert "s.tar:a: .png and .jpg are both the target" in result.output
