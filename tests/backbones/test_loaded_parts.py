"""What is loaded of a model folder: what encodes, what trains and decodes, and nothing beside it."""

import pickle
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from fewstep.backbones.conditioning import Conditioning
from fewstep.backbones.families import load_backbone, model_summary
from fewstep.backbones.meta_copy import materialise
from fewstep.runtime.errors import ModelError
from tests.backbones.families import EDIT_TWO, FAMILIES, SIZE, T2I_UNEQUAL, Family, noise_for, picture


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder of each family's tiny model. Not to be changed."""

    @cache
    def of(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        next(each for each in FAMILIES if each.name == name).make().pipeline.save_pretrained(folder)
        return folder

    return of


@pytest.fixture
def folder(folders: Any, family: Family) -> Path:
    return folders(family.name)


def loaded(folder: Path, parts: str) -> Any:
    return load_backbone(folder, dtype=torch.float32, parts=parts)  # type: ignore[arg-type]


def same(ours: Conditioning, theirs: Conditioning) -> bool:
    pairs = [(getattr(ours, name), getattr(theirs, name)) for name in ("text_BLC", "mask_BL", "references_BRD")]
    equal = all((a is None and b is None) or torch.equal(a, b) for a, b in pairs)
    return equal and ours.layout == theirs.layout


def test_an_encoder_encodes_and_decodes_as_the_whole_model(folder: Path) -> None:
    whole, encoder = loaded(folder, "all"), loaded(folder, "encoder")
    assert encoder.pipeline.transformer is None
    for asked in (T2I_UNEQUAL, EDIT_TWO.within(whole)):
        given = (asked.prompts, asked.references or None, asked.size)
        assert all(same(*pair) for pair in zip(encoder.encode(*given), whole.encode(*given), strict=True))
    latents_BND = encoder.encode_images([picture(96, 64)], SIZE)
    assert torch.equal(latents_BND, whole.encode_images([picture(96, 64)], SIZE))
    target = whole.layout_grid(SIZE)
    assert torch.equal(encoder.pixels(latents_BND, target), whole.pixels(latents_BND, target))


def test_a_decoder_answers_and_decodes_as_the_whole_model(folder: Path) -> None:
    whole, decoder = loaded(folder, "all"), loaded(folder, "decoder")
    assert decoder.pipeline.text_encoder is None
    cond = EDIT_TWO.within(whole).conditioning(whole)
    z_BND, t_B = noise_for(whole, cond), torch.tensor([0.6])
    v_BND = decoder.velocity(decoder.transformer, z_BND, t_B, cond)
    assert torch.equal(v_BND, whole.velocity(whole.transformer, z_BND, t_B, cond))
    decoder.release_encoder()
    assert torch.equal(decoder.pixels(z_BND, cond.layout.target), whole.pixels(z_BND, cond.layout.target))
    with pytest.raises(ModelError, match="not loaded; to encode prompts, load the model with parts='encoder'"):
        decoder.encode(["x"], None, SIZE)


def test_an_encoder_has_no_velocity(folder: Path) -> None:
    encoder, cond = loaded(folder, "encoder"), T2I_UNEQUAL.conditioning(loaded(folder, "all"))
    with pytest.raises(ModelError, match=r"without its transformer; load it with parts='all' or 'decoder'"):
        encoder.velocity(encoder.transformer, noise_for(encoder, cond), torch.ones(len(cond)), cond)


@pytest.mark.parametrize("parts", ["encoder", "decoder", "transformer"])
def test_every_part_states_the_same_of_the_model(folder: Path, parts: str) -> None:
    """Without a transformer its config.json states it; the store is found without any weight."""
    whole, part = loaded(folder, "all"), loaded(folder, parts)
    for fact in ("latent_channels", "lora_targets", "max_references", "default_guidance", "default_steps"):
        assert getattr(part, fact) == getattr(whole, fact), fact
    assert part.sampling_grid(3, (4, 6)) == whole.sampling_grid(3, (4, 6))
    assert part.fingerprint() == whole.fingerprint() == model_summary(folder).fingerprint
    assert model_summary(folder).guidance == whole.default_guidance


@pytest.mark.parametrize(("parts", "unneeded"), [("encoder", "transformer"), ("decoder", "text_encoder")])
def test_weights_of_other_parts_may_be_missing(folder: Path, parts: str, unneeded: str, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    for file in (copy / unneeded).glob("*.safetensors"):
        file.unlink()
    loaded(copy, parts)
    with pytest.raises(ModelError, match=f"{unneeded}.* is missing"):
        loaded(copy, "all")
    (copy / "transformer" / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config\.json is missing"):
        loaded(copy, parts)


def test_a_meta_copy_is_the_model_once_it_has_its_weights(folder: Path) -> None:
    """What other processes get of a model with sharded weights: sent as bytes, filled weight by weight."""
    whole = loaded(folder, "decoder")
    twin = pickle.loads(pickle.dumps(whole.meta_copy()))
    assert twin.pipeline is None
    assert all(p.is_meta and not p.requires_grad for p in twin.transformer.parameters())
    materialise(twin.transformer, torch.device("cpu"))
    twin.transformer.load_state_dict(whole.transformer.state_dict())
    cond = EDIT_TWO.within(whole).conditioning(loaded(folder, "all"))
    z_BND, t_B = noise_for(whole, cond), torch.full((len(cond),), 0.7)
    answers = (one.velocity(one.transformer, z_BND, t_B, cond) for one in (twin, whole))
    torch.testing.assert_close(*answers, rtol=0, atol=2e-6)  # copied weights are aligned otherwise than a file's
