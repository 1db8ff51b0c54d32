"""The estimate of the store's size against the store itself: on the pocket teacher and its cases."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from PIL import Image

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.conditioning_estimate import PUBLISHED, estimate_conditioning
from fewstep.backbones.families import load_backbone
from fewstep.data.cases import Case
from fewstep.data.sources import read_source
from fewstep.encode.encode import encode_cases, store_key
from fewstep.encode.estimate import (
    StoreSize,
    kind_of,
    store_size,
)
from fewstep.encode.store import ConditioningStore
from fewstep.runtime.errors import ModelError

SIZE = (64, 64)
NEGATIVES = {"t2i": ("",), "edit": ("", "blurred")}
ESTIMATE = estimate_conditioning("pocket")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("pocket", dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """Of both tasks; one edit of a wide picture, one of a picture whose EXIF turns it."""
    folder = tmp_path_factory.mktemp("cases")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (160, 64), "teal").save(folder / "wide.png")
    Image.new("RGB", (160, 64), "teal").save(folder / "turned.jpg", exif=exif)
    odd = [Case(name, "edit", "Make it night.", references=(folder / name,)) for name in ("wide.png", "turned.jpg")]
    return read_source("pocket:t2i:60", "t2i", folder) + read_source("pocket:edit:24", "edit", folder) + odd


def estimated(cases: Iterable[Case]) -> StoreSize:
    return store_size(cases, ESTIMATE, size=SIZE, negatives=NEGATIVES, latent_bytes=2)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def store(backbone: Backbone, cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> ConditioningStore:
    made = ConditioningStore(tmp_path_factory.mktemp("store"), backbone.fingerprint())
    encode_cases(backbone, cases, made, size=SIZE, negatives=NEGATIVES)  # type: ignore[arg-type]
    return made


def test_the_estimate_is_within_a_third_of_the_store(store: ConditioningStore, cases: list[Case]) -> None:
    on_disk = sum(path.stat().st_size for path in store.folder.glob("shard-*.safetensors"))
    assert estimated(cases).bytes == pytest.approx(on_disk, rel=0.3)
    assert estimated(cases).conditionings == len(store)
    assert estimated(cases * 2) == estimated(cases), "what is the same is kept once"


def test_layouts_are_distinguished_as_in_the_store(store: ConditioningStore, cases: list[Case]) -> None:
    pairs = {(store.layout(store_key(case, case.prompt, store, SIZE)), kind_of(case, ESTIMATE, SIZE)) for case in cases}
    assert len(pairs) == len({layout for layout, _ in pairs}) == len({kind for _, kind in pairs}) == 4
    assert all(layout.references == grids for layout, (_, grids) in pairs)


def test_lengths_of_text_are_nearly_right(store: ConditioningStore, cases: list[Case]) -> None:
    for case in cases:
        length = store.length(store_key(case, case.prompt, store, SIZE))
        assert abs(ESTIMATE.text_length(case.prompt, len(case.references)) - length) <= 2, case.prompt


def test_a_model_that_is_not_here_is_taken_for_the_published_one() -> None:
    estimate = estimate_conditioning("someone/has-it-elsewhere")
    assert (estimate.text_width, estimate.latent_width) == PUBLISHED
    assert "not on this machine" in estimate.basis
    assert 15 <= estimate.text_length("a red boat on a quiet lake at dawn", 0) <= 20
    assert estimate.text_length("小さな赤い船が湖に浮かぶ", 0) > estimate.text_length("a small red boat", 0)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json is missing"):
        estimate_conditioning(str(tmp_path))


def test_it_is_estimated_without_torch() -> None:
    code = "import sys, fewstep.encode.estimate, fewstep.data.sample_counts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
