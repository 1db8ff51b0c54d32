"""The reader learns what pictures show, and its answers line up with what is asked."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fewstep.pocket import build
from pocket_making import probe_train as pocket_probe
from pocket_making import vae
from pocket_making.harder import probe, probe_train
from pocket_making.harder.attributes import CATEGORIES


def test_what_is_asked_has_one_answer_each() -> None:
    images, wanted = probe_train.renders(40, "train", 0)
    indices = probe_train.as_indices(wanted)
    assert indices.shape == (40, len(probe.questions()))
    for row, each in zip(indices.tolist(), wanted, strict=True):
        told = {n: v for (n, v), k in zip(probe.questions().items(), row, strict=True) if k != pocket_probe.UNASKED}
        assert set(told) == set(each)
        assert all(told[n][k] == each[n] for (n, k) in zip(probe.questions(), row, strict=True) if n in told)
    assert {image.shape for image in images} > {(96, 96, 3)}


def test_pictures_of_all_sizes_lie_on_one_grid() -> None:
    images = [np.full((96, 128, 3), 7, np.uint8), np.full((128, 96, 3), 9, np.uint8)]
    whole = probe.squared(images)
    assert np.array_equal(whole[0, 16:112], images[0])
    assert np.array_equal(whole[1, :, 16:112], images[1])
    with pytest.raises(ValueError, match="128 px at most"):
        probe.squared([np.zeros((160, 96, 3), np.uint8)])


def test_a_reader_learns_from_right_answers() -> None:
    """Thirty steps of a small one tell categories apart: the columns of answers are those of the logits."""
    images, wanted = probe_train.renders(64, "train", 0)
    torch.manual_seed(0)
    reader, pictures = probe.Reader(widths=(8, 8, 8, 16), features=32), torch.from_numpy(probe.squared(images))
    pocket_probe.fit(reader, pictures, probe_train.as_indices(wanted), lambda step: step / 30, 16, print)
    asked = [k for k, each in enumerate(wanted) if "category" in each]
    found = probe.read(reader, [images[k] for k in asked])
    right = np.mean([answers["category"] == wanted[k]["category"] for k, answers in zip(asked, found, strict=True)])
    assert right > 1.6 / len(CATEGORIES)


def test_pictures_come_back_in_their_order_and_size() -> None:
    model = build.build_vae()
    images, _ = probe_train.renders(60, "train", 2)
    squares = np.stack([image for image in images if image.shape == (96, 96, 3)])
    vae.set_principal_components(model, squares)
    again = probe_train.rebuilt(model, images, noise=0.0)
    gaps = [np.abs(a.astype(int) - b).mean() for a, b in zip(images, again, strict=True)]
    assert [a.shape for a in images] == [b.shape for b in again]
    assert np.median(gaps) < 8


def test_accuracy_counts_whole_words(tmp_path: Path) -> None:
    images, wanted = probe_train.renders(30, "train", 3)
    found = probe_train.accuracy(probe.Reader(widths=(8, 8, 8, 8), features=16), images, wanted)
    assert found["word"] <= found["letter"]
    assert {"category", "style", "text.board"} <= set(found)
