"""What ships: the stock class loads and runs it, it knows its world, and its examiner can be trusted."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fewstep.flow.guidance import NO_GUIDANCE, Guidance
from fewstep.pocket import (
    build,
    cases,
    edits,
    exam,
    measure,
    systems,
    world,
)
from fewstep.pocket.probe import Probe
from fewstep.sample.pictures import open_model
from pocket_making import vae
from pocket_making.specialise import KINDS


@pytest.fixture(scope="module")
def pipeline() -> build.QwenImage21Pipeline:
    torch.manual_seed(0)
    return build.load_pocket_teacher()


@pytest.fixture(scope="module")
def sampler() -> exam.Sampler:
    """The teacher at 4 steps of its own grid, without guidance, as examinations sample it."""
    return systems.system_of(open_model("pocket"), steps=4, guidance=dict.fromkeys(systems.TASKS, NO_GUIDANCE)).sampler


@pytest.fixture(scope="module")
def probe() -> Probe:
    return Probe.load()


def test_the_folder_is_small_and_safetensors_only() -> None:
    files = [path for path in build.TEACHER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 40e6
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".pkl")]


def test_the_stock_class_generates_and_edits(pipeline: build.QwenImage21Pipeline) -> None:
    sign = pipeline(
        prompt='A sign shaped as an oval painted red with white letters reading "K" before a blue wall.',
        height=64,
        width=64,
        num_inference_steps=2,
    ).images[0]
    case = cases.edit_case(0, 0)
    edited = pipeline(prompt=case.prompt, image=case.references[0], output_resolution=64, num_inference_steps=2).images[
        0
    ]
    assert sign.size == edited.size == (64, 64)


@pytest.mark.parametrize("edit", [False, True])
def test_the_examined_sampler_is_the_pipeline(
    pipeline: build.QwenImage21Pipeline, sampler: exam.Sampler, edit: bool
) -> None:
    case = cases.edit_case(0, 2) if edit else cases.t2i_case(0, 2)
    (ours,) = sampler([case], [7])
    stock = pipeline(
        prompt=case.prompt,
        num_inference_steps=4,
        height=64,
        width=64,
        image=case.references[0] if edit else None,
        output_resolution=64,
        generator=torch.Generator().manual_seed(7),
    ).images[0]
    gap = np.asarray(ours.convert("RGB")).astype(int) - np.asarray(stock.convert("RGB")).astype(int)
    assert np.abs(gap).max() <= 2


def test_the_probe_reads_renders(probe: Probe) -> None:
    some = [cases.t2i_case(9, i) for i in range(90)]
    records = probe.examine([case.target for case in some], some)
    assert np.mean([r["attributes"] for r in records]) >= 0.99
    assert np.mean([r["letters_exact"] for r in records if r["letters_exact"] is not None]) >= 0.98


def test_the_probe_reads_edits_and_is_not_fooled_by_the_source(probe: Probe) -> None:
    some = [cases.edit_case(9, i, kind=kind) for kind in edits.EDITS if kind != "perceptual" for i in range(6)]
    done = probe.examine([case.target for case in some], some)
    undone = probe.examine([case.references[0] for case in some], some)
    assert np.mean([r["changed"] for r in done]) >= 0.97
    assert np.mean([r["changed"] for r in undone]) <= 0.1


def test_the_vae_is_faithful_and_quiet_on_flat_areas(pipeline: build.QwenImage21Pipeline) -> None:
    some = [cases.t2i_case(9, i) for i in range(30)]
    images = measure.pixels_of([case.target for case in some])
    rebuilt = vae.decode_tokens(pipeline.vae, vae.encode_images(pipeline.vae, images))
    assert np.mean([measure.psnr_8bit(a, b) for a, b in zip(images, rebuilt, strict=True)]) >= 30
    noise = [measure.flat_noise_rms(p, measure.flat_mask(c.scene)) for p, c in zip(rebuilt, some, strict=True)]
    assert np.mean([n for n in noise if n is not None]) < 2.5


def test_guided_pictures_are_what_was_asked_for(sampler: exam.Sampler, probe: Probe) -> None:
    """And unguided ones less often: its captions were noisy."""
    some = [cases.t2i_case(9, i) for i in range(36)]
    guided = systems.system_of(open_model("pocket"), steps=8, guidance=dict.fromkeys(systems.TASKS, Guidance(2.5)))
    right, loose = (
        np.mean([r["attributes"] for r in probe.examine(draw(some, range(36)), some)])
        for draw in (guided.sampler, sampler)
    )
    assert right >= 0.98
    assert loose < right


def test_the_encoder_embeds_each_token_nearly_the_same_anywhere(pipeline: build.QwenImage21Pipeline) -> None:
    from pocket_making.training_batches import embedding_table

    table = embedding_table(pipeline)
    prompt = cases.t2i_case(0, 1).prompt
    embeds_BLC, _, _ = pipeline.encode_prompt(prompt)
    ids = pipeline.processor.tokenizer(prompt)["input_ids"]
    rows = embeds_BLC[0, 2 : 2 + len(ids)]
    assert ((rows - table[ids]).norm(dim=1) / rows.norm(dim=1)).max() < 0.1


def test_package_data_is_beside_the_code() -> None:
    assert isinstance(build.TEACHER, Path)
    assert (build.TEACHER / "model_index.json").exists()
    assert set(world.CATEGORIES) == {"landscape", "portrait", "text"}


def test_a_specialist_is_the_base_when_off_and_another_teacher_when_on(probe: Probe) -> None:
    model = open_model("pocket")
    some = [cases.t2i_case(9, i, category_="portrait") for i in range(12)]
    unguided = dict.fromkeys(systems.TASKS, NO_GUIDANCE)
    base = systems.system_of(model, steps=4, guidance=unguided)
    before = base.sampler(some, range(12))
    adapter = systems.adapter_over(model, "pocket:portrait")
    special = systems.system_of(model, steps=4, guidance=unguided, adapter=adapter)
    assert special.facts != base.facts
    adapted = special.sampler(some, range(12))
    assert [p.tobytes() for p in base.sampler(some, range(12))] == [p.tobytes() for p in before]
    right = [np.mean([r["attributes"] for r in probe.examine(pictures, some)]) for pictures in (before, adapted)]
    assert right[1] > right[0]


def test_the_specialists_are_small_and_complete() -> None:
    files = sorted((build.TEACHER.parent / "specialists").glob("*.safetensors"))
    assert [path.stem for path in files] == sorted(KINDS)
    assert all(path.stat().st_size < 2.5e6 for path in files)
