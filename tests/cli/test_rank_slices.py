"""encode and generate as torchrun starts them: several processes, one folder, killed and begun again. No case is
missing, none is there twice. They need no collective: two processes with torchrun's environment are the whole of it."""

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from fewstep.bench.gallery import open_gallery
from fewstep.encode import store
from fewstep.runtime import durable
from tests.cli.command_line import fewstep, write_recipe
from tests.cli.processes import Command

WORLD = 2


def small_shards() -> None:
    """A test's cases would all fit into one."""
    store.SHARD_ENTRIES = 3


def started(log: Path, words: Iterable[str | Path], ranks: Iterable[int] = range(WORLD)) -> list[Command]:
    torchrun = {"WORLD_SIZE": str(WORLD), "MASTER_ADDR": "nowhere"}
    return [
        Command(
            log / f"{rank}",
            *words,
            environment=torchrun | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            first=small_shards,
        )
        for rank in ranks
    ]


def killed(commands: list[Command], when: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 60
    while not when():
        assert time.monotonic() < end_s, [command.output for command in commands]
        assert not any(command.ended() for command in commands), [command.output for command in commands]
        time.sleep(0.001)
    for command in commands:
        command.kill()
    assert {command.wait() for command in commands} == {-signal.SIGKILL}


def wait_for_all(commands: list[Command]) -> None:
    assert [command.wait() for command in commands] == [0] * len(commands), [command.output for command in commands]


def stored(place: Path) -> list[str]:
    """The conditionings that the index names, by key, as often as it does."""
    indices = place.glob("store/*/index.jsonl")
    return [key for index in indices for line in durable.read_jsonl(index) for key in line["texts"]]


@pytest.fixture
def many(recipe: dict[str, Any], tmp_path: Path) -> str:
    """A recipe over 200 prompts and 30 edits."""
    t2i = [{"id": f"t{i}", "prompt": f"a red house number {i}", "category": "landscape"} for i in range(200)]
    edit = [{"prompt": f"night {i}", "category": "scene", "reference_images": ["source.png"]} for i in range(30)]
    for name, cases in (("t2i", t2i), ("edit", edit)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
    return write_recipe(recipe, tmp_path)


def test_an_encoding_in_rank_slices_killed_and_begun_again(many: str, tmp_path: Path) -> None:
    words = ["encode", many, "--out", tmp_path / "shared" / "run"]
    assert fewstep("encode", many, "--out", tmp_path / "alone" / "run").exit_code == 0
    whole = stored(tmp_path / "alone")
    assert len(whole) == len(set(whole)) == 230
    killed(started(tmp_path, words), lambda: len(stored(tmp_path / "shared")) >= 9)
    (late,) = started(tmp_path, words, ranks=[1])  # one of them is done before the other is begun again
    wait_for_all([late])
    assert 9 < len(stored(tmp_path / "shared")) < 230
    wait_for_all(started(tmp_path, words))
    assert Counter(stored(tmp_path / "shared")) == Counter(whole)
    (again,) = started(tmp_path, words, ranks=[0])
    wait_for_all([again])
    assert "encoded" not in again.output, "nothing is left"


def rows(gallery: Path) -> list[tuple[str, int]]:
    manifests = gallery.glob("manifest*.jsonl")
    return [(row["case"], row["seed"]) for manifest in manifests for row in durable.read_jsonl(manifest)]


def test_a_gallery_in_rank_slices_killed_and_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWSTEP_CACHE", str(tmp_path / "cache"))
    options = ["--suite", "pocket-t2i@12", "--steps", "2", "--guidance", "1", "--batch", "1", "--device", "cpu"]
    assert fewstep("generate", "pocket", "--to", tmp_path / "alone", *options).exit_code == 0
    words = ["generate", "pocket", "--to", tmp_path / "shared", *options]
    killed(started(tmp_path, words), lambda: len(rows(tmp_path / "shared")) >= 3)
    assert 3 <= len(rows(tmp_path / "shared")) < 12
    wait_for_all(started(tmp_path, words))
    assert Counter(rows(tmp_path / "shared")) == Counter(rows(tmp_path / "alone"))
    assert len(rows(tmp_path / "shared")) == len(set(rows(tmp_path / "shared"))) == 12
    files = [
        {(row["case"], row["seed"]): row["file"] for row in open_gallery(tmp_path / name)}
        for name in ("alone", "shared")
    ]
    assert files[0] == files[1], "a picture is its pixels' name"


def test_an_environment_that_does_not_fit(many: str, tmp_path: Path) -> None:
    command = Command(tmp_path / "log", "encode", many, environment={"RANK": "2", "WORLD_SIZE": "2"})
    assert command.wait() == 2
    assert "RANK=2 and WORLD_SIZE=2 do not fit; unset them, or use torchrun" in command.output
