"""LPIPS (Zhang et al., arXiv 1801.03924): a perceptual distance of two pictures, on the features of an AlexNet.

    d(x, y) = sum over layers l of mean over places of w_l . (fx_l / |fx_l| - fy_l / |fy_l|)^2    [eq. 1]

fx_l are the outputs of the five rectified convolutions, with unit length over channels at every place. w_l >= 0 are the
published weights. The folder holds config.json {"model_type": "lpips"} and model.safetensors. The latter has AlexNet's
convolutions by torchvision's names (features.0.weight ...), and the published layers (lin0.model.1.weight ...).
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from fewstep.backbones.folder import weight_files
from fewstep.backbones.identity import digest, part_identity
from fewstep.runtime.errors import ModelError

KIND = "lpips"
# (name, channels in, channels out, kernel, stride, padding, pooled before) of AlexNet's convolutions.
LAYERS = (
    *((0, 3, 64, 11, 4, 2, False), (3, 64, 192, 5, 1, 2, True), (6, 192, 384, 3, 1, 1, True)),
    *((8, 384, 256, 3, 1, 1, False), (10, 256, 256, 3, 1, 1, False)),
)
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of RGB in [-1, 1], as published
SMALLEST = 63  # px: a smaller picture has nothing left at the last layer


class Lpips:
    """Computes distances of pictures. The distance of equal pictures is 0."""

    def __init__(self, folder: Path, device: torch.device):
        """
        Raises:
            ModelError: incomplete, pickled, or tensors of other names or shapes than LPIPS over AlexNet has.
        """
        (file,) = weight_files(folder, "model")
        self.identity, self.device = digest(part_identity(folder, "model")), device
        self._weights = {name: tensor.float().to(device) for name, tensor in load_file(file).items()}
        for name, shape in expected_shapes().items():
            found = tuple(self._weights[name].shape) if name in self._weights else None
            if found != shape:
                raise ModelError(
                    f"{folder}: {name} is {found or 'missing'}, LPIPS over AlexNet has {shape} there; put "
                    "torchvision's AlexNet convolutions and the published lin layers into one file (docs/metrics.md)"
                )

    @torch.no_grad()
    def distance(self, a: Image.Image, b: Image.Image) -> float:
        """The distance of two pictures. If their sizes differ, `b` is resampled to the size of `a`. Sides below 63 px
        are enlarged to 63 px. For pictures of one size it is symmetric."""
        size = (max(SMALLEST, a.width), max(SMALLEST, a.height))
        pairs = zip(self._features(a, size), self._features(b, size), strict=True)
        return float(sum((((x - y) ** 2) * self._lin(layer)).sum(1).mean() for layer, (x, y) in enumerate(pairs)))

    def _lin(self, layer: int) -> Tensor:
        return self._weights[f"lin{layer}.model.1.weight"]

    def _features(self, image: Image.Image, size: tuple[int, int]) -> list[Tensor]:
        """The features of the five layers, each (1, C, H, W), with unit length over C."""
        rgb = image.convert("RGB")
        rgb = rgb if rgb.size == size else rgb.resize(size, Image.Resampling.BICUBIC)
        x = torch.from_numpy(np.asarray(rgb).astype(np.float32)).permute(2, 0, 1)[None].to(self.device) / 127.5 - 1
        shift, scale = (x.new_tensor(values)[:, None, None] for values in (SHIFT, SCALE))
        x, found = (x - shift) / scale, []
        for name, _, _, _, stride, padding, pooled in LAYERS:
            x = F.max_pool2d(x, 3, 2) if pooled else x
            weight, bias = (self._weights[f"features.{name}.{part}"] for part in ("weight", "bias"))
            x = F.conv2d(x, weight, bias, stride, padding).relu()
            found.append(x / (x.norm(dim=1, keepdim=True) + 1e-10))
        return found


def expected_shapes() -> dict[str, tuple[int, ...]]:
    """The name and shape of every tensor that the folder must have."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (name, before, after, kernel, *_) in enumerate(LAYERS):
        shapes[f"features.{name}.weight"] = (after, before, kernel, kernel)
        shapes[f"features.{name}.bias"] = (after,)
        shapes[f"lin{layer}.model.1.weight"] = (1, after, 1, 1)
    return shapes
