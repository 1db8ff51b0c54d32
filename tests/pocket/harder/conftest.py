"""A pipeline of the harder world and a reader, both untrained, in folders as their training leaves them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fewstep.pocket.harder import probe
from pocket_making import vae
from pocket_making.harder import probe_train
from pocket_making.harder.train import untrained


@pytest.fixture(scope="session")
def harder_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its transformer is random; its autoencoder is set to principal components."""
    folder = tmp_path_factory.mktemp("harder") / "pipeline"
    pipeline = untrained()
    images, _, _ = probe_train.renders(60, "train", 2)
    vae.set_principal_components(pipeline.vae, np.stack([each for each in images if each.shape == (96, 96, 3)]))
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def harder_reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("harder-reader")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_file(probe.Reader().state_dict(), folder / "reader.safetensors")
    (folder / "accuracy.json").write_text('{"n": 0}')
    return folder
