"""Prompts that a family would cut, or has no positions for, are refused by whatever reads them."""

import json
from pathlib import Path
from typing import Any

import pytest

from fewstep.backbones.conditioning_estimate import estimate_conditioning, may_be_long
from fewstep.backbones.testing import tiny_qwen_image
from fewstep.data.cases import Case
from fewstep.encode.long_text import refuse_long_text
from fewstep.runtime.errors import CaseError
from tests.cli.command_line import fewstep

LONG = "\U0001f600" * 2400  # four tokens each, in few characters
TOLD = "tokens with its template, and qwen-image-2.1 reads 8,191; shorten it"


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps({"prompt": "a boat"}) + "\n" + json.dumps({"prompt": LONG}) + "\n")
    return path


def told(result: Any) -> str:
    return " ".join(result.output.split())


def test_the_estimate_says_what_does_not_fit() -> None:
    estimate = estimate_conditioning("pocket")
    assert estimate.long_text("word " * 1999, (64, 64), ()) is None
    assert TOLD in str(estimate.long_text(LONG, (64, 64), ()))
    fits = estimate.most_text((4, 4), ()) - estimate.text_length("", 0)
    grids = [(500, 4)]  # a reference takes as many positions as its longer side
    assert estimate.long_text("!" * fits, (64, 64), ()) is None
    assert estimate.long_text("!" * fits, (64, 64), grids) is not None


def test_short_texts_are_not_tokenized() -> None:
    assert not may_be_long("a" * 399)
    assert may_be_long("\u4e2d" * 134)


def test_a_model_whose_tokenizer_is_not_here_refuses_nothing() -> None:
    refuse_long_text([Case("a", "t2i", LONG)], estimate_conditioning("owner/unknown"), (64, 64))
    with pytest.raises(CaseError, match="case 'a' has a prompt of 9,6"):
        refuse_long_text([Case("a", "t2i", LONG)], estimate_conditioning("pocket"), (64, 64))


def test_check_refuses_them_for_a_model(cases: Path) -> None:
    assert fewstep("cases", "check", cases).exit_code == 0
    result = fewstep("cases", "check", cases, "--model", "pocket")
    assert result.exit_code == 2
    assert "1 usable cases" in told(result)
    assert f"{cases}:2: case" in result.output
    assert TOLD in told(result)
    missing = fewstep("cases", "check", cases, "--model", "owner/unknown")
    assert (missing.exit_code, "its tokenizer is not on this machine" in told(missing)) == (2, True)


@pytest.mark.parametrize("words", [("cases", "plan"), ("plan",)], ids=["cases plan", "plan"])
def test_plans_refuse_them(words: tuple[str, ...], cases: Path, tmp_path: Path) -> None:
    source = f"data.t2i=[{{source: {cases}}}]"
    result = fewstep(*words, "pocket", "--set", source, "--set", "tasks={t2i: 1, edit: 0}", "--out", tmp_path / "run")
    assert result.exit_code == 2, result.output
    assert TOLD in told(result)


def test_sample_refuses_them_before_weights_are_loaded(tmp_path: Path) -> None:
    """The folder lacks its weights, which would be told otherwise."""
    folder = tmp_path / "model"
    tiny_qwen_image.qwen_image_pipeline(0).save_pretrained(folder)
    for file in folder.rglob("*.safetensors"):
        file.unlink()
    to = tmp_path / "a.png"
    result = fewstep("sample", folder, "-p", "a boat " * 500, "--out", to)
    assert result.exit_code == 2
    assert "and qwen-image reads 512; shorten it" in told(result)
    assert not to.exists()
