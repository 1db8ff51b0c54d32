"""How the harder world's teacher is made: what each stage learns from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fewstep.pocket import build
from pocket_making import training_batches
from pocket_making.harder import corpus
from pocket_making.harder.render import render
from pocket_making.harder.scenes import SIZES, random_scene
from pocket_making.harder.train import pictures_by_size, train_harder
from pocket_making.teacher_trainer import TeacherTrainingConfig


def test_the_decoder_learns_from_the_corpus_and_from_further_signs(tmp_path: Path) -> None:
    """Of every size, each in an array of its own; of what an edit begins with and of what it ends as."""
    list(corpus.render_corpus(tmp_path, shards=1, workers=1, count=2))
    shown = sum(many * 2 * (layout.references + 1) for layout, many in corpus.layouts(1).items())
    plain, more = (pictures_by_size(tmp_path, signs) for signs in (0, 12))
    sizes = {images.shape[1:3] for images in more}
    assert sizes == {(height, width) for width, height in SIZES}
    assert all(images.dtype == np.uint8 for images in more)
    assert sum(map(len, plain)) == shown
    assert sum(map(len, more)) == shown + 12


def test_letters_stand_on_the_tokens_that_are_said_to_hold_them() -> None:
    """Two signs that differ in each letter alone differ in every one of these tiles, and in no other."""
    for index in range(30):
        it = random_scene("text", corpus.seeded_random("letters", index), "train")
        other = "".join("N" if glyph == "I" else "I" for glyph in it.word)
        one, two = (np.asarray(render(each)).astype(int) for each in (it, replace(it, word=other)))
        rows, columns = it.size[1] // corpus.TILE, it.size[0] // corpus.TILE
        tiles = np.abs(one - two).reshape(rows, corpus.TILE, columns, corpus.TILE, 3).max((1, 3, 4)) > 8
        np.testing.assert_array_equal(tiles.ravel(), corpus.letter_tokens(it))


def test_a_shard_says_where_the_letters_of_its_targets_stand(tmp_path: Path) -> None:
    """Of an edit that was not done, those of its source: the target is what the picture shows."""
    count, layout = 30, corpus.Layout(1, (96, 96))
    shard = np.load(corpus.render_shard((layout, 0, count, tmp_path)))
    samples = [corpus.drawn_sample(layout, 0, row) for row in range(count)]
    assert any(sample.done is None for sample in samples)
    assert any(sample.target.word for sample in samples)
    for row, sample in enumerate(samples):
        np.testing.assert_array_equal(shard["letters"][row], corpus.letter_tokens(sample.target))
        undone = sample.done is None
        assert undone == bool((shard["images"][row, 0] == shard["images"][row, -1]).all())


def some_corpus(letters: torch.Tensor | None) -> training_batches.Corpus:
    ids = torch.full((8, 4), 40, dtype=torch.int16)
    return training_batches.Corpus(torch.randn(8, 1, 16, 64).half(), ids, letters=letters)


def test_samples_with_letters_are_drawn_more_often(pipeline: build.QwenImage21Pipeline) -> None:
    letters = torch.zeros(8, 16, dtype=torch.bool)
    letters[:2, 3] = True
    batches = training_batches.TrainingBatches(pipeline, training_batches.BatchConfig(signs=3.0))
    rng = torch.Generator().manual_seed(0)
    rows = torch.cat([batches.rows(some_corpus(letters), rng, 64) for _ in range(200)])
    assert (rows < 2).double().mean().item() == pytest.approx(3 * 2 / (3 * 2 + 6), abs=0.02)


def test_letters_weigh_more_once_their_place_is_seen(pipeline: build.QwenImage21Pipeline) -> None:
    """At tokens that hold them, and at times below a limit; nothing changes where no letters are known."""
    batches = training_batches.TrainingBatches(pipeline, training_batches.BatchConfig(letters=5.0))
    letters = torch.tensor([[True, False], [False, False]])
    times = torch.tensor([[0.5, 0.95], [0.5, 0.95]])
    assert batches.token_weights(letters, times)[..., 0].tolist() == [[[5, 1], [1, 1]], [[1, 1], [1, 1]]]
    plain = training_batches.TrainingBatches(pipeline)
    torch.manual_seed(0)
    one, all_held = some_corpus(None), torch.ones(8, 16, dtype=torch.bool)
    held = training_batches.Corpus(one.latents, one.ids, letters=all_held)
    losses = [
        each.loss(data, torch.Generator().manual_seed(1), 8).item()
        for each, data in ((plain, one), (batches, one), (plain, held), (batches, held))
    ]
    assert losses[0] == losses[1] == losses[2] < losses[3] < 5 * losses[0]


def test_the_teacher_learns_letters_first_and_then_everything(tmp_path: Path) -> None:
    """Signs alone while their minutes last, then prompts and edits; the command again finds all done."""
    told: list[str] = []
    plan = TeacherTrainingConfig(batch=2, checkpoint_minutes=0.0)
    minutes = {"minutes_vae": 0.0, "minutes_teacher": 0.03, "minutes_probe": 0.0, "minutes_letters": 0.01}
    for _ in range(2):
        folder = train_harder(tmp_path, shards=1, samples=4, plan=plan, workers=1, log=told.append, **minutes)
    stages = [line for line in told if line.startswith("teacher")]
    assert " edit " not in stages[0]
    assert " t2i " in stages[0]
    assert " edit " in stages[-1]
    assert len(stages) == 2
    assert sum(line.startswith("resumed") for line in told) == 3  # the second stage, then both again
    assert (folder / "model_index.json").is_file()
