"""How the harder world's teacher is made: what each stage learns from."""

import shutil
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fewstep.pocket import build
from fewstep.pocket.build import TEACHER
from fewstep.pocket.harder.render import render
from fewstep.pocket.harder.scenes import SIZES, random_scene
from fewstep.runtime.errors import ModelError, RunError
from pocket_making import teacher_trainer, training_batches
from pocket_making.harder import corpus, train
from pocket_making.harder.train import pictures_by_size
from pocket_making.ranks import TeacherRanks
from pocket_making.teacher_trainer import TeacherTrainer, TeacherTrainingConfig
from pocket_making.train import train_teacher


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
    batches = training_batches.TrainingBatches(pipeline, training_batches.BatchConfig(sign_frequency=3.0))
    rng = torch.Generator().manual_seed(0)
    rows = torch.cat([batches.rows(some_corpus(letters), rng, 64) for _ in range(200)])
    assert (rows < 2).double().mean().item() == pytest.approx(3 * 2 / (3 * 2 + 6), abs=0.02)


def test_letters_weigh_more_once_their_place_is_seen(pipeline: build.QwenImage21Pipeline) -> None:
    """At tokens that hold them, and at times below a limit; nothing changes where no letters are known."""
    batches = training_batches.TrainingBatches(pipeline, training_batches.BatchConfig(letter_weight=5.0))
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


def test_the_teacher_learns_letters_first_and_then_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts with the stage's own weights while its minutes last, then prompts and edits with those of this world.

    Every look at the clock takes eleven seconds, so each stage has one step. On a slow machine the real minutes would
    pass within a step.
    """
    looks = count()
    monkeypatch.setattr(teacher_trainer, "time", SimpleNamespace(monotonic=lambda: 11.0 * next(looks)))
    stages: list[tuple[float, set[str], training_batches.BatchConfig]] = []

    def seen(out: Path, minutes: float, plan: TeacherTrainingConfig, workers: int, by_task: Any, log: Any) -> None:
        stages.append((minutes, set(by_task), plan.batch_config))
        train_teacher(out, minutes, plan, workers, by_task, log)

    monkeypatch.setattr(train, "train_teacher", seen)
    told: list[str] = []
    plan = TeacherTrainingConfig(batch=2, checkpoint_minutes=0.0)
    minutes: dict[str, float] = {"minutes_vae": 0, "minutes_teacher": 0.2, "minutes_probe": 0}
    for start in (None, tmp_path / "pipeline"):
        train.train_harder(tmp_path, shards=1, samples=4, plan=plan, workers=1, log=told.append, start=start, **minutes)
    assert [stage[1:] for stage in stages[:2]] == [
        ({"t2i"}, train.LETTERS_FIRST),
        ({"t2i", "edit"}, train.HARDER_BATCH_CONFIG),
    ]
    assert stages[0][0] == pytest.approx(0.02)
    assert stages[2:] == stages[1:2]  # where there is a start, none for letters
    assert sum("step" in line and line.startswith("teacher") for line in told) == 2  # the last call found all done


def test_a_cool_down_waits_for_the_last_stage(tmp_path: Path, pipeline: build.QwenImage21Pipeline) -> None:
    (tmp_path / "cooldown").write_text("5")
    for share, begun in ((0.0, False), (0.2, True)):
        plan = TeacherTrainingConfig(cooldown_share=share)
        trainer = TeacherTrainer(pipeline, tmp_path, plan, 10, lambda message: None, TeacherRanks())
        trainer.check_cooldown()
        assert (trainer.cooling is not None) == begun


def test_what_another_version_of_the_world_left_is_refused(tmp_path: Path) -> None:
    """A shard of other tokens, some shards without letters, and a pipeline of other words."""
    (path, *_) = list(corpus.render_corpus(tmp_path / "corpus", shards=1, workers=1, count=2))
    shard = dict(np.load(path))
    corpus.write_shard(path, **(shard | {"words": shard["words"][::-1]}))
    with pytest.raises(RunError, match="in other tokens than the world has now; remove"):
        list(corpus.render_corpus(tmp_path / "corpus", shards=1, workers=1, count=2))
    corpus.write_shard(path.with_name("t2i-96x96-001.npz"), images=shard["images"], ids=shard["ids"])
    for each in (tmp_path / "corpus").glob("t2i-96x96-*.npz"):
        np.save(each.with_suffix(".latents.npy"), np.zeros((2, 1, 36, 64), np.float16))
    with pytest.raises(RunError, match="some shards say where letters stand and others do not"):
        training_batches.read_corpus(tmp_path / "corpus", "t2i-96x96", (6, 6))
    shutil.copytree(TEACHER, tmp_path / "base")
    with pytest.raises(ModelError, match="its words are not those of the harder world"):
        train.train_harder(tmp_path)
