"""The reader learns what pictures show, and its answers line up with what is asked."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fewstep.pocket import build
from fewstep.pocket.harder import probe
from fewstep.pocket.harder.attributes import CATEGORIES
from fewstep.pocket.harder.cases import prompt_case, readable
from fewstep.pocket.harder.edits import identity_edit, reference_edit
from fewstep.pocket.harder.render import render
from fewstep.pocket.harder.scenes import SIZES, hair_hidden, random_scene
from pocket_making import probe_train as pocket_probe
from pocket_making import vae
from pocket_making.harder import probe_train


def test_what_is_asked_has_one_answer_each() -> None:
    images, wanted, _ = probe_train.renders(40, "train", 0)
    indices = probe_train.as_indices(wanted)
    assert indices.shape == (40, len(probe.reader_questions()))
    asked = probe.reader_questions()
    for row, each in zip(indices.tolist(), wanted, strict=True):
        told = {n: v for (n, v), k in zip(asked.items(), row, strict=True) if k != pocket_probe.UNASKED}
        assert set(told) == set(each)
        assert all(told[n][k] == each[n] for (n, k) in zip(asked, row, strict=True) if n in told)
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
    images, wanted, _ = probe_train.renders(64, "train", 0)
    torch.manual_seed(0)
    reader, pictures = probe.Reader(widths=(8, 8, 8, 16), features=32), torch.from_numpy(probe.squared(images))
    pocket_probe.fit(reader, pictures, probe_train.as_indices(wanted), lambda step: step / 30, 16, print)
    asked = [k for k, each in enumerate(wanted) if "category" in each]
    found = probe.read(reader, [images[k] for k in asked])
    right = np.mean([answers["category"] == wanted[k]["category"] for k, answers in zip(asked, found, strict=True)])
    assert right > 1.6 / len(CATEGORIES)


def test_pictures_come_back_in_their_order_and_size() -> None:
    model = build.build_vae()
    images, _, _ = probe_train.renders(60, "train", 2)
    squares = np.stack([image for image in images if image.shape == (96, 96, 3)])
    vae.set_principal_components(model, squares)
    again = probe_train.rebuilt(model, images, noise=0.0)
    gaps = [np.abs(a.astype(int) - b).mean() for a, b in zip(images, again, strict=True)]
    assert [a.shape for a in images] == [b.shape for b in again]
    assert np.median(gaps) < 8


def test_accuracy_counts_whole_words(tmp_path: Path) -> None:
    images, wanted, _ = probe_train.renders(30, "train", 3)
    found = probe_train.accuracy(probe.Reader(widths=(8, 8, 8, 8), features=16), images, wanted)
    assert found["word"] <= found["letter"]
    assert {"category", "style", "text.board"} <= set(found)


@pytest.mark.parametrize("size", list(SIZES))
def test_a_letter_stands_where_a_picture_changes_with_it(size: tuple[int, int]) -> None:
    rng = random.Random(str(size))
    for _ in range(8):
        it = random_scene("text", rng, "train", size)
        slot = rng.randrange(len(it.word))
        other = replace(it, word=it.word[:slot] + ("A" if it.word[slot] != "A" else "B") + it.word[slot + 1 :])
        one, two = (probe.squared([np.asarray(render(each))])[0].astype(int) for each in (it, other))
        places = probe.letter_places(it).reshape(-1, probe.SIDE // probe.PLACE, probe.SIDE // probe.PLACE)
        inside = np.kron(places[slot] > 0, np.ones((probe.PLACE, probe.PLACE))) > 0
        changed = np.abs(one - two).sum(2) > 0
        assert changed.any()
        assert not (changed & ~inside).any()
        assert places.sum((1, 2)).tolist() == pytest.approx([1.0] * len(it.word) + [0.0] * (6 - len(it.word)))


def test_what_has_no_word_has_no_places() -> None:
    rng = random.Random(0)
    assert not any(probe.letter_places(random_scene(kind, rng, "train")).any() for kind in CATEGORIES if kind != "text")


def test_slots_learn_to_look_where_their_letters_stand() -> None:
    """On eight signs by heart, in a hundred steps: nearer than an even look at all places."""
    torch.manual_seed(0)
    rng = random.Random(1)
    signs = [random_scene("text", rng, "train", (96, 96)) for _ in range(8)]
    pictures = torch.from_numpy(probe.squared([np.asarray(render(it)) for it in signs]))
    places = torch.from_numpy(np.stack([probe.letter_places(it) for it in signs]))
    reader, seen = probe.Reader(widths=(8, 8, 8, 16), features=32), []

    def answering(*given: Any) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        answers, further = probe_train.looking(places, *given)
        seen.append(float(further.detach()))
        return answers, further

    wanted = probe_train.as_indices([probe.right_answers(it, None) for it in signs])
    pocket_probe.fit(reader, pictures, wanted, lambda step: step / 100, 8, print, answering)
    assert seen[-1] < 0.6 * seen[0]


def test_nobody_is_asked_for_what_a_hat_covers() -> None:
    """Nor does an edit change it, and every prompt asks for something; a cap over long hair hides nothing."""
    assert all(prompt_case(1, index, "portrait").asked for index in range(400))
    rng = random.Random(4)
    it = random_scene("portrait", rng, "train").having(style="short", hat="sunhat", hat_colour="red", hair="black")
    for hat, style, told in (("sunhat", "short", False), ("none", "short", True), ("cap", "long", True)):
        each = it.having(hat=hat, hat_colour="none" if hat == "none" else "red", style=style)
        assert ("portrait.hair" in probe.right_answers(each, None)) == told
        assert ("hair" in readable(each, frozenset({"hair", "hat"}))) == told
        lent = [reference_edit(each, random.Random(k), 1) for k in range(60)]
        assert not any(edit and "hair" in edit.changed and hair_hidden(edit.target) for edit in lent)
        proposed = [identity_edit(each, random.Random(k)) for k in range(60)]
        assert any(edit is not None and edit.changed == ("hair",) for edit in proposed) == told


def test_a_reader_is_trained_in_two_parts_and_goes_on_after_the_first(harder_teacher: Path, tmp_path: Path) -> None:
    """Each part has pictures of its own. Without time for the second, the reader is the one of the first."""
    model = build.load_pocket_teacher(harder_teacher).vae
    told: list[str] = []
    few: dict[str, Any] = {"count": 12, "batch": 4, "log": told.append, "held_out": 12}
    whole = probe_train.train_probe(model, tmp_path, 0.02, **few)
    assert sum(line.startswith("rendered 12") for line in told) == 2
    reader, accuracy = probe.load_reader(tmp_path)
    assert accuracy == {"n": 12, **whole}
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1  # safetensors would let nobody but the owner read its files
    half_way = load_file(tmp_path / "after-part-1.safetensors")
    assert not torch.equal(half_way["gather.weight"].float(), reader.gather.weight)
    probe_train.train_probe(model, tmp_path, 1e-9, **few)
    assert sum(line.startswith("rendered 12") for line in told) == 3
    assert torch.equal(half_way["gather.weight"].float(), probe.load_reader(tmp_path)[0].gather.weight)
    one, two = (probe_train.renders(200, "train", 0, kinds)[1] for kinds in probe_train.KINDS)
    signs = [sum(each.get("category") == "text" for each in wanted) / len(wanted) for wanted in (one, two)]
    assert signs[0] > 2 * signs[1]
