"""Models of pictures from local folders: tiny random ones of the real classes, offline."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from fewstep.backbones import stock
from fewstep.backbones.scorers import Scorer
from fewstep.cli.verbs.model_metrics import score_gallery
from fewstep.runtime.errors import GalleryError, ModelError
from tests.bench.plain_galleries import drawn, picture, suite
from tests.cli.command_line import fewstep

assert stock  # imports transformers after the torchvision remedy
from transformers import (  # noqa: E402
    BitImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

__all__ = ["suite"]
SIDE = 28
TOWER: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
WORDS = {"<pad>": 0, "<unk>": 1, "plain": 2, "colour": 3, "</s>": 4} | {str(i): 5 + i for i in range(40)}


def words() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="</s>")


def text_tower(**more: int) -> dict[str, Any]:
    ids = {"bos_token_id": 0, "eos_token_id": 4, "pad_token_id": 0}
    return TOWER | {"vocab_size": 64, "max_position_embeddings": 16} | ids | more


VISION = TOWER | {"image_size": SIDE, "patch_size": 14}
SIZE = {"height": SIDE, "width": SIDE}


def folder_of(kind: str, folder: Path) -> Path:
    torch.manual_seed(0)
    if kind == "clip":
        config = CLIPConfig(
            text_config=text_tower(projection_dim=8), vision_config=VISION | {"projection_dim": 8}, projection_dim=8
        )
        CLIPModel(config).save_pretrained(folder)
        CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=SIZE).save_pretrained(folder)
    elif kind == "siglip":
        SiglipModel(SiglipConfig(text_config=text_tower(projection_size=16), vision_config=VISION)).save_pretrained(
            folder
        )
        SiglipImageProcessor(size=SIZE).save_pretrained(folder)
    else:
        Dinov2Model(Dinov2Config(**VISION)).save_pretrained(folder)
        BitImageProcessor(size={"shortest_edge": SIDE}, crop_size=SIZE).save_pretrained(folder)
    if kind != "dinov2":
        words().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["clip", "siglip", "dinov2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(request.param, tmp_path_factory.mktemp("models") / request.param)


def test_features_are_the_models_own(model: Path) -> None:
    """Unit length, the same in a batch and alone, and the cosine is what the class itself says of both."""
    scorer = Scorer(model, torch.device("cpu"))
    images = [picture(i, noise=20) for i in range(3)]
    together = scorer.features(images)
    assert np.linalg.norm(together, axis=1) == pytest.approx(1, abs=1e-5)
    assert together[1] == pytest.approx(scorer.features(images[1:2])[0], abs=1e-5)
    if scorer.reads_text:
        texts = scorer.text_features(["plain colour 1", "plain"])
        theirs = _logits(scorer, images, ["plain colour 1", "plain"])
        assert scorer.logit(float(together[2] @ texts[0])) == pytest.approx(theirs[2, 0], abs=1e-4)


def _logits(scorer: Scorer, images: list[Image.Image], prompts: list[str]) -> np.ndarray:
    """logits_per_image of the model's own forward."""
    pixels = scorer._prepare(images=images, return_tensors="pt")
    tokenized = scorer._words(prompts, padding="max_length", max_length=16, return_tensors="pt")
    inputs = {"input_ids": tokenized["input_ids"], **pixels}
    if scorer._model.config.model_type == "clip":
        inputs["attention_mask"] = tokenized["attention_mask"]
    with torch.no_grad():
        return scorer._model(**inputs).logits_per_image.numpy()


def test_a_gallery_is_scored_once(model: Path, suite: Any, tmp_path: Path) -> None:
    gallery = drawn(suite, tmp_path / "g", picture, skip={2})
    scorer = Scorer(model, torch.device("cpu"))
    found = score_gallery(gallery, scorer, "tiny")
    assert sum(each.skipped is not None for each in found) == 2
    names = {name for each in found for name in each.values}
    assert names == ({"similarity", "logit", "spread"} if scorer.reads_text else {"spread"})
    score_gallery(gallery, scorer, "tiny", advance=lambda *_: pytest.fail("scored again"))


def test_the_command_and_comparing_by_it(suite: Any, tmp_path: Path) -> None:
    model = folder_of("clip", tmp_path / "clip")
    one, two = (drawn(suite, tmp_path / n, lambda i, k, n=n: picture(i, k, noise=len(n))) for n in ("a", "bbb"))
    for gallery in (one, two):
        done = fewstep("bench", "score", gallery, "--model", model, "--name", "pick", "--device", "cpu")
        assert done.exit_code == 0, done.output
    assert fewstep("bench", "compare", one, two, "--metric", "pick", "--margin", "1").exit_code == 1
    assert (
        fewstep("bench", "compare", one, one, "--metric", "pick.logit", "--non-inferior", "--margin", ".1").exit_code
        == 0
    )
    assert fewstep("bench", "compare", one, two, "--metric", "pick.wrong").exit_code == 3


def test_what_is_no_scorer_is_refused(tmp_path: Path, suite: Any) -> None:
    gallery = drawn(suite, tmp_path / "g", picture)
    refused = fewstep("bench", "score", gallery, "--model", "openai/clip-vit-base-patch32")
    assert (refused.exit_code, "no folder" in refused.output) == (2, True)
    bert = tmp_path / "bert"
    bert.mkdir()
    (bert / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ModelError, match="bert"):
        Scorer(bert, torch.device("cpu"))
    torn = folder_of("clip", tmp_path / "clip")
    (torn / "model.safetensors").unlink()
    with pytest.raises(ModelError):
        Scorer(torn, torch.device("cpu"))
    whole = folder_of("dinov2", tmp_path / "dino")
    with pytest.raises(GalleryError, match="--name"):
        score_gallery(gallery, Scorer(whole, torch.device("cpu")), "tone")
