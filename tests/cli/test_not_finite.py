"""Weights that are no numbers: no command makes a black picture of them."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from fewstep.bench.gallery import open_gallery
from tests.cli.command_line import fewstep, refused

DENOISER, DECODER = "transformer/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"


@pytest.fixture(params=[(DENOISER, "proj_out.weight"), (DECODER, "decoder.conv_out.weight")], ids=lambda p: p[0][:3])
def damaged(request: pytest.FixtureRequest, teacher: Path, tmp_path: Path) -> tuple[Path, str]:
    """A model with a NaN in one tensor, and the tensor's name."""
    file, name = request.param
    folder = Path(shutil.copytree(teacher, tmp_path / "model"))
    held = load_file(folder / file)
    held[name].view(-1)[0] = float("nan")
    save_file(held, folder / file, metadata={"format": "pt"})
    return folder, name


def test_sample_writes_nothing(damaged: tuple[Path, str], tmp_path: Path) -> None:
    words = ("-p", "a red house", "--size", "64x64", "--steps", "1", "--device", "cpu", "--out", tmp_path / "a.png")
    refused(fewstep("sample", damaged[0], *words), "not finite numbers, so there is no picture", "fewstep doctor")
    assert not (tmp_path / "a.png").exists()


def test_doctor_names_the_weights_and_fails(damaged: tuple[Path, str]) -> None:
    folder, name = damaged
    refused(fewstep("doctor", folder), name, "hold values that are not finite", "again")


def test_generate_keeps_no_picture(damaged: tuple[Path, str], tmp_path: Path) -> None:
    words = ("--suite", "pocket-t2i@2", "--to", tmp_path / "g", "--steps", "1", "--device", "cpu")
    assert fewstep("generate", damaged[0], *words).exit_code == 1
    gallery = open_gallery(tmp_path / "g")
    assert len(gallery) == 0
    assert gallery.failures
    assert all("not finite" in json.dumps(row) for row in gallery.failures)


def test_doctor_of_a_whole_model_passes(teacher: Path) -> None:
    result = fewstep("doctor", teacher)
    assert result.exit_code == 0, result.output
    assert "answers, rms velocity" in result.output
