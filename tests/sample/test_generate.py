"""Galleries of the pocket teacher: a picture's cost is counted, and neither a kill nor rank slices can change one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fewstep.bench.drafts import DraftCase
from fewstep.bench.gallery import Gallery, open_gallery
from fewstep.bench.suite import Suite
from fewstep.bench.suites import open_suite, suite_of
from fewstep.flow.guidance import Guidance
from fewstep.run.gallery import generate_gallery
from fewstep.runtime.errors import (
    CaseError,
    EnvironmentRefused,
    GalleryError,
    LayoutError,
)
from fewstep.runtime.rank_slice import RankSlice
from fewstep.sample.generate import (
    MAX_FAILURES_IN_A_ROW,
    GalleryRenderer,
    fill_gallery,
)
from fewstep.sample.pictures import (
    Model,
    generate_pictures,
    open_model,
)
from tests.bench.small_suites import suite_of_drafts
from tests.cli.command_line import fewstep

STEPS = 2


@pytest.fixture(scope="module")
def model() -> Model:
    return open_model("pocket")


@pytest.fixture
def rendered(model: Model) -> Callable[..., Gallery]:
    def render(
        suite: Suite,
        to: Path,
        rank_slice: RankSlice | None = None,
        limit: int | None = None,
        scale: float = 1,
        batch: int = 3,
    ) -> Gallery:
        renderer = GalleryRenderer(model, suite, STEPS, Guidance(scale), batch)
        return fill_gallery(renderer, to, "pocket", rank_slice or RankSlice(), limit, lambda drawn, failed: None)[0]

    return render


def files_of(gallery: Gallery) -> dict[tuple[str, int], str]:
    return {(row["case"], row["seed"]): row["file"] for row in gallery}


def test_a_row_records_everything(rendered: Callable[..., Gallery], model: Model, tmp_path: Path) -> None:
    suite = open_suite("pocket-edit@2")
    calls = 0

    def count(module: torch.nn.Module, args: Any, named: Any) -> None:
        nonlocal calls
        calls += len(named["hidden_states"])

    hook = model.backbone.transformer.register_forward_pre_hook(count, with_kwargs=True)
    gallery = rendered(suite, tmp_path / "g", scale=2.0)
    hook.remove()
    row = gallery.row(suite.questions[0].case.id, suite.questions[0].seeds[0])
    assert (row["nfe"], row["prefix_calls"]) == (4, 2)  # both branches, two steps
    assert sum(r["nfe"] + r["prefix_calls"] for r in gallery) == calls
    assert row["guidance"]["scale"] == 2.0
    assert row["sigmas"] == list(model.sampling(STEPS)[0])
    assert row["size"] == [64, 64]
    assert set(row["seconds"]) == {"encode", "denoise", "decode"}
    assert all(value > 0 for value in row["seconds"].values())
    assert row["peak_mb"] > 10
    assert {"fewstep", "torch", "diffusers"} <= set(row["versions"])
    assert gallery.heading["model"]["fingerprint"] == row["model"]
    assert suite_of(tmp_path / "g").hash == suite.hash


def test_unguided_pictures_cost_half_and_are_the_samplers(
    rendered: Callable[..., Gallery], model: Model, tmp_path: Path
) -> None:
    suite = open_suite("pocket-diversity@2")
    gallery = rendered(suite, tmp_path / "g")
    assert len(gallery) == 16
    assert {row["nfe"] for row in gallery} == {2}
    question = suite.questions[1]
    (alone,) = generate_pictures(model, [question.case.prompt], (), question.seeds[5], STEPS, Guidance(1), (64, 64))
    drawn = gallery.picture(question.case.id, question.seeds[5])
    gap = torch.tensor(list(alone.convert("RGB").tobytes())).float() - torch.tensor(list(drawn.tobytes())).float()
    assert gap.abs().max() <= 1


def test_a_teacher_may_read_its_own_prompts(model: Model, tmp_path: Path) -> None:
    """The gallery says so, answers the same suite as its student's, and judges are told what was asked."""
    drafts = [DraftCase("a", "a house", "landscape"), DraftCase("b", "a boat", "landscape")]
    suite, gallery, file = suite_of_drafts(tmp_path / "s", drafts), tmp_path / "g", tmp_path / "taught.jsonl"
    record = {"id": "a", "task": "t2i", "prompt": "a house", "category": "landscape"}

    def rendered(**more: str) -> Gallery:
        file.write_text(json.dumps(record | more) + "\n")
        generate_gallery("pocket", tmp_path / "s", gallery, steps=1, guidance=1, teacher_prompts=file)
        return open_gallery(gallery)

    for more, words in (
        ({}, "no teacher_prompt for a case"),
        ({"prompt": "x", "teacher_prompt": "y"}, "something else"),
    ):
        with pytest.raises(CaseError, match=words):
            rendered(**more)
        assert not gallery.exists()

    found = rendered(teacher_prompt="a red house on green grass")
    rows = {row["case"]: row for row in found}
    assert (rows["a"]["prompt"], rows["a"]["read"]) == ("a house", "a red house on green grass")
    assert (rows["b"]["prompt"], rows["b"]["read"]) == ("a boat", "a boat")
    seed = suite.questions[0].seeds[0]
    (alone,) = generate_pictures(model, [rows["a"]["read"]], (), seed, 1, Guidance(1), (64, 64))
    assert found.picture("a", seed).tobytes() == alone.convert("RGB").tobytes()
    assert suite_of(gallery).hash == suite.hash
    with pytest.raises(GalleryError):
        rendered(teacher_prompt="another house")


def test_rank_slices_are_disjoint_and_whole(rendered: Callable[..., Gallery], tmp_path: Path) -> None:
    suite = open_suite("pocket-t2i@7")
    whole = files_of(rendered(suite, tmp_path / "whole"))
    slices = []
    for rank in (1, 0):
        rendered(suite, tmp_path / "shared", RankSlice(rank, 2))
        lines = (tmp_path / "shared" / f"manifest.rank{rank}.jsonl").read_text().splitlines()
        slices.append({json.loads(line)["case"] for line in lines})
    assert not slices[0] & slices[1]
    assert sorted(map(len, slices)) == [3, 4]
    assert set(files_of(open_gallery(tmp_path / "shared"))) == set(whole)


def test_a_rank_slice_comes_from_torchruns_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert RankSlice.from_environment() == RankSlice(0, 1)
    assert RankSlice().manifest is None
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert RankSlice.from_environment() == RankSlice(1, 2)
    assert RankSlice(1, 2).manifest == 1
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(EnvironmentRefused, match="RANK=2"):
        RankSlice.from_environment()


def test_what_is_there_is_not_drawn_again(rendered: Callable[..., Gallery], tmp_path: Path) -> None:
    suite = open_suite("pocket-t2i@6")
    gallery = rendered(suite, tmp_path / "g", limit=2)
    before = gallery.path(suite.questions[0].case.id, suite.questions[0].seeds[0]).stat().st_mtime_ns
    assert len(gallery) == 2
    assert len(rendered(suite, tmp_path / "g")) == 6
    lines = (tmp_path / "g" / "manifest.jsonl").read_text().splitlines()
    assert len(lines) == 6
    assert gallery.path(suite.questions[0].case.id, suite.questions[0].seeds[0]).stat().st_mtime_ns == before


def test_another_sampler_or_suite_is_refused(rendered: Callable[..., Gallery], tmp_path: Path) -> None:
    rendered(open_suite("pocket-t2i@2"), tmp_path / "g")
    with pytest.raises(GalleryError, match=r"another model.*guidance"):
        rendered(open_suite("pocket-t2i@2"), tmp_path / "g", scale=3)
    with pytest.raises(GalleryError, match="another suite"):
        rendered(open_suite("pocket-t2i@3"), tmp_path / "g")
    with pytest.raises(LayoutError, match="multiples of 32"):
        rendered(suite_of_drafts(tmp_path / "s", [DraftCase("a", "a house", "x")], size=(60, 60)), tmp_path / "h")
    assert not (tmp_path / "h").exists()


def odd(number: int, size: tuple[int, int] | None) -> DraftCase:
    return DraftCase(f"case-{number:02d}", "A landscape by day.", "landscape", size=size)


def test_a_case_that_fails_is_a_row_and_the_rest_goes_on(rendered: Callable[..., Gallery], tmp_path: Path) -> None:
    sizes = [None, (70, 70), None, (64, 96)]
    suite = suite_of_drafts(tmp_path / "s", [odd(i, size) for i, size in enumerate(sizes)])
    gallery = rendered(suite, tmp_path / "g")
    assert {row["case"] for row in gallery} == {"case-00", "case-02", "case-03"}
    assert gallery.picture("case-03", suite.questions[3].seeds[0]).size == (96, 64)
    (row,) = gallery.failures
    assert row["case"] == "case-01"
    assert "multiples of 32" in row["why"]


def test_an_error_in_a_batch_costs_only_whom_it_belongs_to(
    rendered: Callable[..., Gallery], model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Memory that suffices for two at once: the batch of three fails, one by one they are drawn."""
    decode = model.backbone.decode

    def small(x0_BND: torch.Tensor, target: tuple[int, int]) -> Any:
        if len(x0_BND) > 2:
            raise RuntimeError("out of memory")
        return decode(x0_BND, target)

    monkeypatch.setattr(model.backbone, "decode", small)
    suite = suite_of_drafts(tmp_path / "s", [odd(i, None) for i in range(3)])
    gallery = rendered(suite, tmp_path / "g")
    assert len(gallery) == 3
    assert {row["batch"] for row in gallery} == {1}


def test_failures_in_a_row_stop_it(rendered: Callable[..., Gallery], tmp_path: Path) -> None:
    suite = suite_of_drafts(tmp_path / "s", [odd(i, (70, 70)) for i in range(MAX_FAILURES_IN_A_ROW + 5)])
    with pytest.raises(GalleryError, match=r"in a row failed.*multiples of 32.*same command"):
        rendered(suite, tmp_path / "g")
    assert len(open_gallery(tmp_path / "g").failures) == MAX_FAILURES_IN_A_ROW


def test_killed_and_called_again(rendered: Callable[..., Gallery], cache: Path, tmp_path: Path) -> None:
    """kill -9 in the middle; the same command ends with the pictures of an unbroken run."""
    words = ["generate", "pocket", "--suite", "pocket-t2i@12", "--to", str(tmp_path / "g"), "--steps", str(STEPS)]
    words += ["--guidance", "1", "--batch", "1", "--device", "cpu"]
    manifest = tmp_path / "g" / "manifest.jsonl"
    env = {**os.environ, "FEWSTEP_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, "-m", "fewstep", *words], env=env, stdout=subprocess.DEVNULL) as process:
        for _ in range(30_000):
            if manifest.exists() and manifest.read_bytes().count(b"\n") >= 3:
                break
            assert process.poll() is None, "it ended before it drew anything"
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    killed = open_gallery(tmp_path / "g")
    assert 3 <= len(killed) < 12
    assert fewstep(*words).exit_code == 0
    unbroken = rendered(open_suite("pocket-t2i@12"), tmp_path / "unbroken", batch=1)
    assert files_of(open_gallery(tmp_path / "g")) == files_of(unbroken)
    assert manifest.read_bytes().count(b"\n") == 12


def test_the_command_refuses_what_is_wrong_before_it_works(tmp_path: Path) -> None:
    for words, message in (
        (["--suite", "nothing"], "no suite 'nothing'"),
        (["--suite", "pocket-t2i@2", "--dtype", "fp8"], "bf16 or fp32"),
        (["--suite", "pocket-t2i@2", "--device", "tpu"], "tpu"),
    ):
        result = fewstep("generate", "pocket", "--to", tmp_path / "g", *words)
        assert result.exit_code == 2
        assert message in " ".join(result.output.split())
    assert not (tmp_path / "g").exists()


def test_the_command_exits_with_1_where_pictures_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    suite = suite_of_drafts(tmp_path / "s", [odd(0, (70, 70)), odd(1, None)])
    words = ("generate", "pocket", "--suite", suite.folder, "--to", tmp_path / "g", "--steps", "1")
    result = fewstep(*words)
    assert result.exit_code == 1
    assert "1 pictures in" in result.output
    assert "1 failed" in result.output
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert fewstep(*words).exit_code == 0  # torchrun would end the others
