"""The trainer's own forward, and the trainer: equal to the stock class, resumable."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fewstep.pocket import build
from fewstep.pocket.measure import psnr_8bit
from pocket_making import (
    corpus,
    shared_prefix,
    teacher_trainer,
    training_batches,
    vae,
)
from pocket_making.ranks import TeacherRanks


@pytest.fixture(scope="module")
def pipeline() -> build.QwenImage21Pipeline:
    return build.build_pocket_pipeline(0)


@pytest.mark.parametrize("edit", [False, True])
def test_many_draws_behind_one_prefix_are_the_stock_forward(pipeline: build.QwenImage21Pipeline, edit: bool) -> None:
    model, batch, many, tokens, before, after = pipeline.transformer, 3, 2, 16, 4, 9
    torch.manual_seed(0)
    text, z, t = torch.randn(batch, before + after, 128), torch.randn(batch, many, tokens, 64), torch.rand(batch, many)
    valid = torch.ones(batch, before + after, dtype=torch.bool)
    valid[1, 10:] = False
    reference = torch.randn(batch, tokens, 64) if edit else None
    slots = 4 if edit else 0
    layout = shared_prefix.batch_layout(
        model, before if edit else before + after, 16 if edit else 0, after if edit else 0, tokens, many
    )
    with torch.no_grad():
        ours = shared_prefix.velocities(model, text, valid, reference, z, t, layout)
        hole = torch.zeros(batch, slots, 128)
        full = torch.cat([text[:, :before], hole, text[:, before:]], dim=1)
        mask = torch.cat([valid[:, :before], hole.new_ones(batch, slots).bool(), valid[:, before:]], dim=1)
        image = torch.zeros(batch, full.shape[1] + 4, dtype=torch.bool)
        image[:, before : before + slots] = True
        image[:, -4:] = True
        for draw in range(many):
            joint = z[:, draw] if reference is None else torch.cat([reference, z[:, draw]], dim=1)
            stock = model(joint, full, t[:, draw], [[(1, 4, 4)] * (2 if edit else 1)] * batch, image, mask).sample
            torch.testing.assert_close(ours[:, draw], stock[:, -tokens:], rtol=1e-4, atol=1e-5)


def test_the_fitted_encoder_is_the_closed_form_and_inverts(pipeline: build.QwenImage21Pipeline) -> None:
    model = build.build_vae()
    images = np.stack([corpus.corpus_sample("t2i", 0, i)[2][0] for i in range(60)])
    assert vae.set_principal_components(model, images) > 0.98
    z = vae.encode_images(model, images[:20])
    torch.testing.assert_close(z, vae.encode_closed_form(model, images[:20]), rtol=1e-3, atol=1e-3)
    rebuilt = vae.decode_tokens(model, z)
    assert np.mean([psnr_8bit(a, b) for a, b in zip(images[:20], rebuilt, strict=True)]) > 28


def test_training_resumes_where_it_stopped(
    tmp_path: Path, pipeline: build.QwenImage21Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped and resumed trainer has the weights of the unbroken one."""
    plan = teacher_trainer.TeacherTrainingConfig(batch=2, warmup=1)
    ids = torch.full((4, corpus.LONGEST), -1, dtype=torch.int16)
    ids[:, :3] = 40
    data = {
        "t2i": training_batches.Corpus(torch.randn(4, 1, 16, 64).half(), ids),
        "edit": training_batches.Corpus(torch.randn(4, 2, 16, 64).half(), ids),
    }
    ended = []
    for stops in ((2,), (1, 1)):
        model = build.build_transformer(layers=1)
        torch.manual_seed(0)
        for p in model.parameters():
            torch.nn.init.normal_(p, std=0.02)
        folder = tmp_path / str(len(stops))
        for count in stops:
            monkeypatch.setattr(pipeline, "transformer", model)
            teacher = teacher_trainer.TeacherTrainer(pipeline, folder, plan, 1e9, lambda message: None, TeacherRanks())
            for _ in range(count):
                task = ("t2i", "edit")[teacher.step % 2]
                teacher.update(task, data[task])
            teacher.save()
            model = build.build_transformer(layers=1)
        ended.append(torch.load(folder / "state.pt", weights_only=True))
    assert ended[0]["step"] == ended[1]["step"] == 2
    for name, value in ended[0]["model"].items():
        torch.testing.assert_close(value, ended[1]["model"][name], rtol=0, atol=0)
