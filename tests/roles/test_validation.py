"""A teacher whose weights are not its model's is refused by its key in the recipe, before anything is loaded."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fewstep.backbones.testing import tiny_qwen_image_21
from fewstep.roles.plan import TeachersSpec
from fewstep.roles.validation import validate_teachers
from fewstep.runtime.errors import ModelError


def test_a_teacher_of_other_weights_is_refused(tmp_path: Path) -> None:
    for name in ("base", "other"):
        tiny_qwen_image_21.qwen_image_21_pipeline().save_pretrained(tmp_path / name)
    spec = TeachersSpec.model_validate({"preset": "step-wise", "named": {"mine": {"model": str(tmp_path / "other")}}})
    validate_teachers(spec, 4, str(tmp_path / "base"))
    file = tmp_path / "other" / "transformer" / "diffusion_pytorch_model.safetensors"
    held = load_file(file)
    save_file({name: value.to(torch.int32) for name, value in held.items()}, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"^teachers.named.mine.model: .* as I32, where the model has floating-point"):
        validate_teachers(spec, 4, str(tmp_path / "base"))
