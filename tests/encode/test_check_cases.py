"""What a model cannot take of the cases is refused before anything of it is loaded."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fewstep.backbones.conditioning_estimate import KLEIN_TOKENS, TEXT_20B, estimate_conditioning
from fewstep.backbones.testing import tiny_flux2_klein, tiny_longcat_image, tiny_qwen_image
from fewstep.data.cases import MAX_CHARACTERS, Case
from fewstep.encode.check_cases import refuse_unfit_cases, respelling_remark
from fewstep.runtime.errors import CaseError

SIZE = (64, 64)


def longest(estimate: Any, most: int, word: str = "a ") -> int:
    """The most words whose text still fits."""
    count = most
    while estimate.needed_text(word * count, 0) > most:
        count -= 1
    return count


def test_a_prompt_that_leaves_no_positions_is_refused_with_its_length_and_the_limit(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    long = "word" * (MAX_CHARACTERS // 4)
    edit = Case("e1", "edit", long, references=(tmp_path / "a.png",), where="c.jsonl:3")
    for case in (Case("x", "t2i", long, where="c.jsonl:2"), edit):
        expected = rf"{case.where}: case '{case.id}' has a prompt of 16,\d\d\d tokens .*qwen-image-2.1 reads 8,1\d\d"
        with pytest.raises(CaseError, match=expected):
            refuse_unfit_cases("pocket", [case], SIZE, "encoder")
    refuse_unfit_cases("pocket", [Case("y", "t2i", "word " * 1999)], SIZE, "encoder")


@pytest.mark.parametrize(
    ("make", "most"),
    [(tiny_flux2_klein.flux2_klein_pipeline, KLEIN_TOKENS), (tiny_qwen_image.qwen_image_pipeline, TEXT_20B)],
    ids=["klein", "20 B"],
)
def test_a_prompt_that_the_pipeline_would_cut_is_refused(tmp_path: Path, make: Any, most: int) -> None:
    folder = tmp_path / "model"
    pipeline = make(0)
    pipeline.save_pretrained(folder)
    fits = longest(estimate_conditioning(str(folder)), most)
    refuse_unfit_cases(str(folder), [Case("x", "t2i", "a " * fits)], SIZE, "encoder")
    with pytest.raises(CaseError, match=f"reads {most}; shorten it"):
        refuse_unfit_cases(str(folder), [Case("x", "t2i", "a " * (fits + 1) + "a a", where="c:1")], SIZE, "encoder")


def test_prompts_that_are_read_in_another_spelling_are_told(tmp_path: Path) -> None:
    tiny_longcat_image.longcat_image_pipeline().save_pretrained(tmp_path)
    plain = Case("a", "t2i", "it's red, and it's round")
    cases = [plain, Case("b", "t2i", "it's red and doesn't move", where="c.jsonl:2")]
    remark = respelling_remark(str(tmp_path), cases)
    assert remark is not None
    assert remark.startswith("1 of 2 cases")
    assert remark.endswith("c.jsonl:2")
    assert respelling_remark(str(tmp_path), [plain]) is None
    assert respelling_remark("pocket", cases) is None
