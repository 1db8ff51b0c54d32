"""Specialists of the harder world: clean pairs, a LoRA that the base takes, and a part of the time range."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fewstep.lora.file import read_lora
from fewstep.pocket.harder.captions import END
from fewstep.pocket.harder.edits import CORRUPTIONS
from fewstep.pocket.harder.vocabulary import tokenizer
from fewstep.pocket.systems import adapter_over
from fewstep.sample.pictures import open_model
from pocket_making.harder import specialise
from pocket_making.harder.corpus import LONGEST, Layout
from pocket_making.training_batches import BatchConfig, draw_times
from tests.cli.command_line import fewstep


@pytest.mark.parametrize("kind", specialise.HARDER_KINDS)
def test_pairs_are_of_their_layout_and_a_function_of_their_index(kind: str) -> None:
    layouts = specialise.curated_layouts(kind, 400)
    assert 390 <= sum(layouts.values()) <= 410
    for layout in layouts:
        text, pictures = specialise.curated_pair(kind, layout, 7, 3)
        again = specialise.curated_pair(kind, layout, 7, 3)
        assert text == again[0]
        assert all(np.array_equal(a, b) for a, b in zip(pictures, again[1], strict=True))
        assert [picture.shape for picture in pictures] == [(*layout.size[::-1], 3)] * (1 + (kind == "edit"))
        assert len(tokenizer().encode(text).ids) <= LONGEST


def test_edits_are_made_as_told() -> None:
    """A repair's target differs from its source: no pair of a specialist is left undone, as one in ten of the base's
    corpus is."""
    repairs = {wording + END for some in CORRUPTIONS.values() for wording in some}
    pairs = [specialise.curated_pair("edit", Layout(1, (96, 96)), 7, index) for index in range(80)]
    gaps = [np.abs(source.astype(int) - target).max() for _, (source, target) in pairs]
    assert min(gaps) > 8
    assert any(text in repairs for text, _ in pairs)


def test_times_are_drawn_within_their_part_of_the_range() -> None:
    whole, part = BatchConfig(), BatchConfig(times=(0.6, 0.9))
    drawn = [draw_times((500,), config, torch.Generator().manual_seed(0)) for config in (whole, part)]
    assert 0 <= float(drawn[0].min()) < 0.1 < 0.9 < float(drawn[0].max()) <= 1
    torch.testing.assert_close(drawn[1], 0.6 + 0.3 * drawn[0])


def test_a_specialist_is_a_lora_over_its_base(harder_teacher: Path, tmp_path: Path) -> None:
    result = fewstep(
        *("pocket", "specialise", "edit", "--world", "harder", "--base", harder_teacher, "--out", tmp_path),
        *("--iterations", "1", "--examples", "8", "--t-min", "0.5"),
    )
    assert result.exit_code == 0, result.output
    assert "1 steps" in result.output
    (file,) = tmp_path.glob("*.safetensors")
    assert all(float(update.b.abs().sum()) > 0 for update in read_lora(file).values())
    model = open_model(harder_teacher)
    assert adapter_over(model, str(file)).name == str(file)


def test_a_specialist_goes_on_from_its_file(harder_teacher: Path, tmp_path: Path) -> None:
    config = replace(specialise.BRITTLE, examples=4, batch=2, rank=2, learning_rate=1e-5)
    made = [tmp_path / "a", tmp_path / "b"]
    first = specialise.specialise_harder("text", harder_teacher, made[0], 1, 2, replace(config, learning_rate=1e-2))
    second = specialise.specialise_harder("text", harder_teacher, made[1], 1, 1, config, str(first))
    before, after = read_lora(first), read_lora(second)
    for module, update in before.items():
        was, now = (each.scale * each.b.double() @ each.a.double() for each in (update, after[module]))
        assert (now - was).norm() < 0.2 * was.norm()
