"""Models that score pictures for examinations, from local folders: CLIP, SigLIP, PickScore and similar ones, DINO.

Models with two towers (text and picture) score how well a picture fits its prompt. All of them give features by which
pictures can be compared.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fewstep.backbones.folder import read_json, weight_files
from fewstep.backbones.identity import digest, part_identity
from fewstep.backbones.stock import (
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
)
from fewstep.runtime.errors import ModelError

TWO_TOWERS = ("clip", "siglip", "siglip2")  # PickScore and most preference models are CLIP by type
ONE_TOWER = ("dinov2", "dinov2_with_registers", "dinov3_vit", "vit")

Features = NDArray[np.float32]  # one unit-length row each


class Scorer:
    """A model with its own preprocessing of pictures and text. Features have unit length, so their products are
    cosines."""

    def __init__(self, folder: Path, device: torch.device):
        """
        Raises:
            ModelError: incomplete, pickled, or of a type that is not known here.
        """
        kind = str(read_json(folder / "config.json").get("model_type"))
        if kind not in TWO_TOWERS + ONE_TOWER:
            raise ModelError(
                f"{folder} is a model of type '{kind}'; pictures are scored by {', '.join(TWO_TOWERS + ONE_TOWER)}"
            )
        weight_files(folder, "model")  # refuses what is missing or pickled, with the remedy
        self.reads_text, self.device = kind in TWO_TOWERS, device
        self.identity = digest(part_identity(folder, "model"))
        self._model = _loaded(AutoModel, folder, use_safetensors=True).eval().to(device).requires_grad_(False)
        self._prepare = _loaded(AutoImageProcessor, folder, backend="pil")
        self._words = _loaded(AutoTokenizer, folder) if self.reads_text else None

    @torch.no_grad()
    def features(self, images: Sequence[Image.Image]) -> Features:
        pixels = self._prepare(images=[image.convert("RGB") for image in images], return_tensors="pt")
        pixels = pixels.to(self.device)
        if self.reads_text:
            return _unit(_tensor(self._model.get_image_features(**pixels)))
        return _unit(self._model(**pixels).last_hidden_state[:, 0])  # the class token, normed

    @torch.no_grad()
    def text_features(self, prompts: Sequence[str]) -> Features:
        """Features of prompts. Prompts that are too long for the model are truncated, as its makers do."""
        assert self._words is not None, "one tower has no words"
        longest = self._model.config.text_config.max_position_embeddings
        tokenized = self._words(
            list(prompts), padding="max_length", truncation=True, max_length=longest, return_tensors="pt"
        )
        known = {name: tokenized[name].to(self.device) for name in ("input_ids", "attention_mask") if name in tokenized}
        if self._model.config.model_type != "clip":
            known.pop("attention_mask", None)  # SigLIP was trained on padding
        return _unit(_tensor(self._model.get_text_features(**known)))

    def logit(self, cosine: float) -> float:
        """A cosine on the model's own scale: PickScore's score, or the input of SigLIP's sigmoid."""
        bias = getattr(self._model, "logit_bias", None)
        scaled = cosine * float(self._model.logit_scale.exp())
        return scaled if bias is None else scaled + float(bias)


def _loaded(kind: Any, folder: Path, **options: Any) -> Any:
    try:
        return kind.from_pretrained(folder, local_files_only=True, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(
            f"{folder} does not open as {kind.__name__} ({str(error).strip().partition(chr(10))[0]}); give a whole "
            "folder: config.json, model.safetensors, preprocessor_config.json, and the tokenizer of a model that reads"
        ) from error


def _tensor(found: Any) -> Tensor:
    """The features as a tensor. Newer versions of transformers return them in an output object."""
    tensor = found if isinstance(found, Tensor) else found.pooler_output
    assert isinstance(tensor, Tensor)
    return tensor


def _unit(x: Tensor) -> Features:
    return np.asarray(torch.nn.functional.normalize(x.float(), dim=-1).cpu().numpy(), dtype=np.float32)
