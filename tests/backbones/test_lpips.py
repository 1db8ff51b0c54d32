"""LPIPS from a local folder: the published shapes with random weights, checked against the formula written out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from fewstep.backbones.lpips import (
    SCALE,
    SHIFT,
    Lpips,
    expected_shapes,
)
from fewstep.runtime.errors import ModelError
from tests.bench.plain_galleries import drawn, picture, suite
from tests.cli.command_line import fewstep

__all__ = ["suite"]


def weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = {name: torch.randn(shape, generator=generator) * 0.05 for name, shape in expected_shapes().items()}
    return {name: tensor.abs() if name.startswith("lin") else tensor for name, tensor in made.items()}


def folder(at: Path, tensors: dict[str, torch.Tensor] | None = None) -> Path:
    at.mkdir()
    (at / "config.json").write_text('{"model_type": "lpips"}')
    save_file(weights() if tensors is None else tensors, at / "model.safetensors")
    return at


def noisy(image: Image.Image, sigma: float) -> Image.Image:
    pixels = np.asarray(image).astype(float)
    pixels += np.random.default_rng(0).normal(0, sigma, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def test_the_distance_is_the_formula_over_torch_layers(tmp_path: Path) -> None:
    held = weights()
    stages = [[nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU()]]
    stages += [[nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU()]]
    stages += [[nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU()]]
    stages += [[nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU()], [nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU()]]
    alexnet = nn.Sequential(*(layer for stage in stages for layer in stage))
    alexnet.load_state_dict({k.removeprefix("features."): v for k, v in held.items() if k.startswith("features.")})
    a, b = picture(0, noise=30).resize((96, 80)), picture(1, noise=30).resize((96, 80))

    def prepared(image: Image.Image) -> torch.Tensor:
        x = torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1)[None] / 127.5 - 1
        return (x - torch.tensor(SHIFT)[:, None, None]) / torch.tensor(SCALE)[:, None, None]

    x, y, total, done = prepared(a), prepared(b), 0.0, 0
    with torch.no_grad():
        for layer, stage in enumerate(stages):
            part = alexnet[done : done + len(stage)]
            done += len(stage)
            x, y = part(x), part(y)
            gap = (nn.functional.normalize(x, dim=1) - nn.functional.normalize(y, dim=1)) ** 2
            total += float((held[f"lin{layer}.model.1.weight"] * gap).sum(1).mean())
    found = Lpips(folder(tmp_path / "lpips"), torch.device("cpu")).distance(a, b)
    assert found == pytest.approx(total, rel=1e-4)
    assert found > 0


def test_equal_pictures_are_no_distance_apart_and_noise_is(tmp_path: Path) -> None:
    lpips, clean = Lpips(folder(tmp_path / "lpips"), torch.device("cpu")), picture(3, noise=5)
    apart = [lpips.distance(clean, noisy(clean, sigma)) for sigma in (0, 4, 16, 64)]
    assert apart[0] == 0
    assert apart == sorted(apart)
    assert lpips.distance(clean, noisy(clean, 16)) == pytest.approx(lpips.distance(noisy(clean, 16), clean))


def test_a_gallery_is_measured_by_the_command(suite: Any, tmp_path: Path) -> None:
    gallery = drawn(suite, tmp_path / "g", lambda i, k: picture(i, k, noise=8))
    done = fewstep("bench", "score", gallery, "--model", folder(tmp_path / "lpips"), "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert "lpips.far_from_seeds" in done.output


def test_other_weights_are_refused(tmp_path: Path) -> None:
    short = {name: tensor for name, tensor in weights().items() if name != "lin3.model.1.weight"}
    with pytest.raises(ModelError, match=r"lin3\.model\.1\.weight is missing"):
        Lpips(folder(tmp_path / "lpips", short), torch.device("cpu"))
