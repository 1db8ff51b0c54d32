"""The fitted encoder, and the trainer: closed form, and resumable."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fewstep.pocket import build
from fewstep.pocket.measure import psnr_8bit
from pocket_making import (
    corpus,
    teacher_trainer,
    training_batches,
    vae,
)
from pocket_making.ranks import TeacherRanks


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
                teacher.update(data[task])
            teacher.save()
            model = build.build_transformer(layers=1)
        ended.append(torch.load(folder / "state.pt", weights_only=True))
    assert ended[0]["step"] == ended[1]["step"] == 2
    for name, value in ended[0]["model"].items():
        torch.testing.assert_close(value, ended[1]["model"][name], rtol=0, atol=0)


@pytest.mark.slow  # real code is generated
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method")  # torch's own, where its compiler is imported
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_blocks_have_the_loss_and_the_gradient_of_plain_ones(pipeline: build.QwenImage21Pipeline) -> None:
    """Over texts with and without padding, and with a reference picture."""
    ids = torch.full((4, corpus.LONGEST), -1, dtype=torch.int16)
    ids[:, :3], ids[2:, 3:6] = 40, 41
    samples = [training_batches.Corpus(torch.randn(4, pictures, 16, 64).half(), ids) for pictures in (1, 2)]
    plain, compiled = (training_batches.TrainingBatches(pipeline, compiled=how) for how in (False, True))
    weight = pipeline.transformer.transformer_blocks[0].attn.to_q.weight.requires_grad_(True)
    for data in samples:
        for seed in range(3):
            found = []
            for batches in (plain, compiled):
                loss = batches.loss(data, torch.Generator().manual_seed(seed), 4)
                found.append((loss, *torch.autograd.grad(loss, weight)))
            for left, right in zip(*found, strict=True):
                torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6)
