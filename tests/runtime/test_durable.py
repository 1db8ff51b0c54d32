"""Files that are whole or as they were, and what is refused where they cannot be written."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from fewstep.runtime import durable
from fewstep.runtime.errors import EnvironmentRefused
from tests.full_disk import full_disk


def test_a_line_that_does_not_fit_is_refused_and_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    durable.append_jsonl(path, {"n": 0})
    with full_disk(room=path.stat().st_size + 5), pytest.raises(EnvironmentRefused):
        durable.append_jsonl(path, {"n": 1, "much": "x" * 100})
    durable.append_jsonl(path, {"n": 2})
    assert [line["n"] for line in durable.read_jsonl(path)] == [0, 2]


def test_a_line_that_was_cut_off_is_told_from_one_that_was_damaged(tmp_path: Path) -> None:
    """The last line, or one after which something was appended, marked then. If nobody asks, both are None."""
    path = tmp_path / "m.jsonl"
    path.write_text('{"n": 0}\n{"n": 1, "mu')
    cut: list[int] = []
    assert list(durable.numbered_records(path, cut.append)) == [(1, {"n": 0})]
    durable.append_jsonl(path, {"n": 2})
    assert list(durable.numbered_records(path, cut.append)) == [(1, {"n": 0}), (3, {"n": 2})]
    assert cut == [2, 2]
    assert list(durable.numbered_records(path)) == [(1, {"n": 0}), (2, None), (3, {"n": 2})]
    path.write_text('{"n": 0}\n{"n": 1, "mu\n\n{"n": 2}\n')
    assert list(durable.numbered_records(path, cut.append)) == [(1, {"n": 0}), (2, None), (4, {"n": 2})]


def test_replacing_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    durable.write_atomically(path, "old")
    with full_disk(room=3), pytest.raises(EnvironmentRefused):
        durable.write_atomically(path, json.dumps(list(range(100))))
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("f.json", "old")]
    durable.write_atomically(path, "new")
    assert path.read_text() == "new"


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.ENOSPC, "Free some space"), (errno.EROFS, "you may write to"), (errno.EIO, "cannot be written: Input")],
)
def test_each_failure_has_its_remedy(tmp_path: Path, number: int, remedy: str) -> None:
    assert remedy in str(durable.refusal(tmp_path, OSError(number, os.strerror(number))))


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.EACCES, "x"), errno.EACCES),
        (ValueError("Error while serializing: I/O error: No space left on device (os error 28)"), errno.ENOSPC),
        (shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")]), errno.ENOSPC),
        (ValueError("invalid header"), None),
    ],
)
def test_a_library_s_own_message_for_a_full_disk_is_understood(error: Exception, number: int | None) -> None:
    assert durable.system_error(error).errno == number


def test_a_file_gets_the_mode_that_the_umask_gives(tmp_path: Path) -> None:
    """safetensors makes files that their owner alone can read."""
    closed, plain = tmp_path / "closed", tmp_path / "plain"
    closed.write_bytes(b"")
    plain.write_bytes(b"")
    closed.chmod(0o600)
    durable.as_umask_says(closed)
    assert closed.stat().st_mode == plain.stat().st_mode
