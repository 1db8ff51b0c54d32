"""The examination, on systems whose answers are known."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.flow.guidance import NO_GUIDANCE, Guidance
from fewstep.pocket.cases import (
    PocketCase,
    edit_case,
    t2i_case,
)
from fewstep.pocket.exact_answers import exact_answers, nearest_answer
from fewstep.pocket.exam import (
    ExamSpec,
    exam_figures,
    examine,
    headline,
)
from fewstep.pocket.exam_gallery import ExaminedSystem
from fewstep.pocket.probe import Probe, Reader
from fewstep.pocket.systems import system_of
from fewstep.run.best_by import FIGURES
from fewstep.runtime.errors import RunError
from fewstep.sample.pictures import Model, generate_pictures

SPEC = ExamSpec(cases=3, diversity=2, seeds=3, batch=16)


@pytest.fixture(scope="session")
def probe() -> Probe:
    """Untrained: what it reads is arbitrary, what it measures is not."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Probe(Reader(), {"renders": 1.0})


class Renders:
    """Renders every case right, with `levels` of noise; counts what it is asked for."""

    def __init__(self, levels: float):
        self.levels, self.asked = levels, 0

    def __call__(self, cases: Sequence[PocketCase], seeds: Sequence[int]) -> list[Image.Image]:
        self.asked += len(cases)
        return [self._one(case, seed) for case, seed in zip(cases, seeds, strict=True)]

    def _one(self, case: PocketCase, seed: int) -> Image.Image:
        pixels = np.asarray(case.target.convert("RGB")).astype(float)
        noise = np.random.default_rng(seed).normal(0, self.levels, pixels.shape) if self.levels else 0
        return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))


def line(found: dict, key: str) -> dict:
    return next(figure for figure in found["figures"] if figure["key"] == key)


def test_known_systems_get_their_known_figures(probe: Probe, tmp_path: Path) -> None:
    systems = {"clean": ExaminedSystem(Renders(0), {"model": "a"}), "noisy": ExaminedSystem(Renders(8), {"model": "b"})}
    found = examine(systems, SPEC, probe, tmp_path)
    assert json.loads((tmp_path / "figures.json").read_text()) == found
    kept = line(found, "edit.preserved")
    assert kept["values"]["clean"]["value"] == 60
    assert kept["against"]["noisy"]["value"] < -25  # dB
    flat = line(found, "t2i.flat_noise")
    assert flat["values"]["clean"]["value"] < 1 < flat["values"]["noisy"]["value"]
    assert flat["better"] == "lower"
    assert found["diversity"]["values"]["clean"]["value"] == 0
    assert found["diversity"]["values"]["noisy"]["value"] > 0
    assert found["frechet"]["values"]["clean"] == pytest.approx(found["frechet"]["floor"])
    assert found["frechet"]["n"] == 9
    assert found["reference"] == "clean"
    assert (
        line(found, "t2i.exact")["values"]["clean"]["value"]
        == line(found, "edit.exact")["values"]["clean"]["value"]
        == 60
    )
    assert line(found, "t2i.exact")["values"]["noisy"]["value"] < 35
    assert found["diversity"]["answers"]["clean"]["value"] < 1  # one picture for all seeds meets one answer


def test_every_system_answers_the_same_questions(probe: Probe, tmp_path: Path) -> None:
    systems = {name: ExaminedSystem(Renders(level), {}) for name, level in (("a", 0), ("b", 2))}
    examine(systems, SPEC, probe, tmp_path)
    keys = [
        [(r["case"], r["seed"]) for r in map(json.loads, (tmp_path / name / "records.jsonl").read_text().splitlines())]
        for name in systems
    ]
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == SPEC.scored_count == 27


def test_what_is_sampled_is_not_sampled_again(probe: Probe, tmp_path: Path) -> None:
    renders = Renders(1)
    found = examine({"a": ExaminedSystem(renders, {"model": "x"})}, SPEC, probe, tmp_path)
    assert renders.asked == len(SPEC.questions()) == 27 + 6 * 2
    (tmp_path / "a" / "pictures").joinpath(next(iter(sorted(p.name for p in tmp_path.glob("a/pictures/*"))))).unlink()
    again = examine({"a": ExaminedSystem(renders, {"model": "x"})}, SPEC, probe, tmp_path)
    assert renders.asked == len(SPEC.questions()) + 1
    assert again == found
    with pytest.raises(RunError, match="another model"):
        examine({"a": ExaminedSystem(renders, {"model": "y"})}, SPEC, probe, tmp_path)


def test_a_blend_of_two_answers_is_near_none() -> None:
    scene = t2i_case(0, 1).scene
    exact = [Image.fromarray(pixels) for pixels in exact_answers(scene)]
    assert len(exact) == 4
    assert [nearest_answer(picture, scene) for picture in exact] == [(60, i) for i in range(4)]
    assert nearest_answer(Image.blend(exact[0], exact[3], 0.5), scene)[0] < 30


def test_ratios_are_paired_and_clustered() -> None:
    def record(case: int, seed: int, right: float) -> dict:
        base = {"task": "t2i", "category": "landscape", "letters_exact": None, "flat_noise": None, "exact_psnr": 30.0}
        return base | {"case": f"c{case}", "seed": seed, "attributes": right, "changed": None, "preserved_psnr": None}

    rng = np.random.default_rng(0)
    right = rng.uniform(0.5, 1, (30, 4))
    records = {
        name: [record(c, s, share * right[c, s] + 1e-4 * (c % 2) * (share < 1)) for c in range(30) for s in range(4)]
        for name, share in (("teacher", 1.0), ("student", 0.9))
    }
    found = exam_figures(records)
    ratio = line(found, "t2i.attributes")["against"]["student"]
    assert (ratio["n"], ratio["clusters"]) == (120, 30)
    assert ratio["value"] == pytest.approx(0.9, abs=1e-3)
    assert 0 < ratio["high"] - ratio["low"] < 1e-3, "pair by pair, all but the cases' own spread cancels"
    assert "edit.changed" not in {figure["key"] for figure in found["figures"]}  # nothing it applies to


def test_headline_agrees_with_the_examination(probe: Probe, tmp_path: Path) -> None:
    renders = Renders(3)
    found = examine({"a": ExaminedSystem(renders, {})}, SPEC, probe, tmp_path)
    short = headline(renders, SPEC.questions()[: SPEC.scored_count], probe)
    assert ("score", *short) == FIGURES["pocket"]  # which can choose a checkpoint
    for key, name in (
        ("t2i.attributes", "attributes"),
        ("edit.changed", "changed"),
        ("edit.preserved", "preserved_psnr"),
    ):
        assert short[name] == pytest.approx(line(found, key)["values"]["a"]["value"])


def test_a_models_pictures_are_the_samplers() -> None:
    """Mixed tasks, references and seeds in one call; each picture is the one drawn for its case alone."""
    model = Model(QwenImage21.tiny(), None, NO_GUIDANCE, (64, 64))
    system = system_of(model, steps=2, guidance={"t2i": NO_GUIDANCE, "edit": Guidance(1.5)})
    cases = [t2i_case(0, 0), edit_case(0, 0), t2i_case(0, 1), edit_case(0, 2)]
    drawn = system.sampler(cases, [5, 6, 7, 8])
    for case, seed, picture in zip(cases, [5, 6, 7, 8], drawn, strict=True):
        guidance = Guidance(1.5) if case.task == "edit" else NO_GUIDANCE
        (alone,) = generate_pictures(model, [case.prompt], case.references, seed, 2, guidance, (64, 64))
        assert np.abs(np.asarray(alone).astype(int) - np.asarray(picture).astype(int)).max() <= 1
    assert system.facts["network_calls"] == {"t2i": 2, "edit": 4}
