"""Texts that are stored as the transformer's first layer for them answers.

FLUX transformers read several hidden states of their text encoder at once, 7,680 to 20,480 channels, and their first
layer, `context_embedder`, projects them to their own width. No adapter changes that layer here, and it has no gradient.
So its answer is what is encoded and stored, in a fifth to two fifths of the bytes. It belongs to the fingerprint of a
store, and encoding needs the file of the transformer's weights in which it is.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from fewstep.backbones.folder import header_of, weight_files
from fewstep.runtime.errors import ModelError

LAYER = "context_embedder"
WEIGHTS = "diffusion_pytorch_model"  # the name of the file that holds it
SAMPLED = 8  # rows of its weight by which it is identified


class Projection(nn.Linear):
    """A layer that hands on what has the width of its answer, as it was projected before. Anything else it projects, as
    the stock pipeline asks it to."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.shape[-1] == self.out_features else super().forward(x)


def take_projected_text(transformer: Any) -> None:
    """Lets a stock transformer take projected texts too. A deep copy of it takes them as well."""
    layer = transformer.context_embedder
    if type(layer) is nn.Linear:
        assert layer.in_features != layer.out_features, "widths tell what was projected"
        layer.__class__ = Projection


def read_projection(folder: Path, rows: int | None = None) -> Tensor:
    """The projection of texts in a folder, or its first rows.

    Raises:
        ModelError: the transformer's weights are missing, or hold none.
    """
    name = f"{LAYER}.weight"
    for file in weight_files(folder / "transformer", WEIGHTS):
        if name in header_of(file):
            with safe_open(file, framework="pt") as stored:
                return stored.get_slice(name)[:rows] if rows else stored.get_tensor(name)
    raise ModelError(f"{folder / 'transformer'} has no {name}, which projects texts. Copy or download it again")


def projection_identity(weight: Tensor) -> bytes:
    """The identity of a projection by its first rows, whatever dtype it is stored in."""
    return weight[:SAMPLED].to("cpu", torch.bfloat16).float().numpy().tobytes()
