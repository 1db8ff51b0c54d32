"""What ships of the harder world: the stock class runs its teacher, its reader reads, and its weights are few."""

import json
import zlib
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch

import fewstep
from fewstep.backbones.embedded import EMBEDDED, HARDER, POCKET_GUIDANCE, embedded_folder
from fewstep.flow.guidance import NO_GUIDANCE
from fewstep.pocket import build
from fewstep.pocket.exam_gallery import Sampler
from fewstep.pocket.harder import probe, records
from fewstep.pocket.harder.attributes import CATEGORIES
from fewstep.pocket.harder.cases import instruction_case, prompt_case
from fewstep.pocket.harder.scenes import PIXELS
from fewstep.pocket.systems import system_of
from fewstep.runtime.task import TASKS
from fewstep.sample.pictures import open_model
from pocket_making import vae

WHEEL_MB = 41  # ours: all weights, as a wheel packs them


@pytest.fixture(scope="module")
def pipeline() -> build.Pipeline:
    return build.load_pocket_teacher(embedded_folder(HARDER))


@pytest.fixture(scope="module")
def reader() -> probe.Reader:
    return probe.load_reader(probe.READER)[0]


def sampler(steps: int, guided: bool) -> Sampler:
    guidance = POCKET_GUIDANCE if guided else dict.fromkeys(TASKS, NO_GUIDANCE)
    return system_of(open_model(HARDER), steps=steps, guidance=guidance, sizes=PIXELS).sampler


def test_all_weights_of_the_package_fit_a_wheel_and_are_safetensors() -> None:
    place = Path(fewstep.__file__).parent
    packed = sum(len(zlib.compress(path.read_bytes(), 6)) for path in place.rglob("*.safetensors"))
    assert packed < WHEEL_MB * 1e6
    for name in EMBEDDED:
        files = [path for path in embedded_folder(name).rglob("*") if path.is_file()]
        assert not [path for path in files if path.suffix in (".bin", ".pt", ".pkl")]


@pytest.mark.parametrize(
    ("size", "references"),
    [*((size, count) for size in PIXELS for count in (0, 1)), (PIXELS[0], 2)],  # several pictures are of one size
    ids=str,
)
def test_the_examined_sampler_is_the_stock_pipeline(
    pipeline: build.Pipeline, size: tuple[int, int], references: int
) -> None:
    """At every size it has its own shift, and an edit may have several pictures."""
    kind = "two-pictures" if references > 1 else "object"
    drawn = (prompt_case(3, i, "text") if references == 0 else instruction_case(3, i, kind) for i in range(100))
    case = next(case for case in drawn if case.size == size)
    (ours,) = sampler(3, guided=False)([case], [7])
    stock = pipeline(
        prompt=case.prompt,
        num_inference_steps=3,
        height=size[0],
        width=size[1],
        image=list(case.references) or None,
        generator=torch.Generator().manual_seed(7),
        **({"output_resolution": round((size[0] * size[1]) ** 0.5)} if references else {}),
    ).images[0]
    assert stock.size == ours.size == size[::-1]
    gap = np.asarray(ours.convert("RGB")).astype(int) - np.asarray(stock.convert("RGB")).astype(int)
    assert np.abs(gap).max() <= 2


def test_the_reader_reads_renders_and_is_not_fooled_by_sources(reader: probe.Reader) -> None:
    prompts = [prompt_case(9, i, kind) for kind in CATEGORIES for i in range(15)]
    edits = [instruction_case(9, i, kind) for kind in ("object", "identity", "scene", "two-pictures") for i in range(6)]

    def shares(cases: list, pictures: list) -> list[float]:  # type: ignore[type-arg]
        read = probe.read(reader, pictures)
        found = (records.picture_record(p, seen, case, 0) for p, seen, case in zip(pictures, read, cases, strict=True))
        return [record["asked"] for record in found]

    assert fmean(shares(prompts, [case.target for case in prompts])) >= 0.98
    assert fmean(shares(edits, [case.target for case in edits])) >= 0.95
    assert fmean(shares(edits, [case.references[0] for case in edits])) <= 0.15
    assert json.loads((probe.READER / "accuracy.json").read_text())["renders"]["letter"] >= 0.99


def test_more_steps_and_guidance_draw_what_was_asked_more_often(reader: probe.Reader) -> None:
    """What a student has to gain."""
    cases = [prompt_case(9, i, kind) for kind in ("portrait", "text") for i in range(16)]
    asked = []
    for system in (sampler(4, guided=False), sampler(16, guided=True)):
        pictures = system(cases, range(len(cases)))
        read = probe.read(reader, pictures)
        told = [records.picture_record(p, seen, c, 0) for p, seen, c in zip(pictures, read, cases, strict=True)]
        asked.append(fmean(record["asked"] for record in told))
    assert asked[1] > asked[0] + 0.05


def test_what_nothing_reads_is_zero_and_changes_no_picture(pipeline: build.Pipeline) -> None:
    fresh = build.build_pocket_pipeline().vae
    vae.set_identity(fresh.encoder.mid_block)
    shown = torch.rand(1, 4, 1, 96, 96) * 2 - 1
    before = fresh.encode(shown).latent_dist.mean
    assert fresh.encoder.mid_block.resnets[0].conv1.weight.any()
    vae.clear_unread(fresh.encoder)
    torch.testing.assert_close(fresh.encode(shown).latent_dist.mean, before, rtol=0, atol=0)
    resnet, attention = fresh.encoder.mid_block.resnets[0], fresh.encoder.mid_block.attentions[0]
    assert not resnet.conv1.weight.any()
    assert not attention.to_qkv.weight.any()
