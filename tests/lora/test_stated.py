"""The strength that a file states beside its tensors: every spelling in use, and contradictions."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from fewstep.lora.file import read_lora
from fewstep.runtime.errors import AdapterError
from tests.train.tiny_model import normal

A, B = normal(4, 6, name="a"), normal(5, 4, name="b")  # rank 4
KOHYA = {"lora_unet_x.lora_down.weight": A, "lora_unet_x.lora_up.weight": B}
MODULES = {
    f"transformer.{m}.lora_{side}.weight": value for m in ("x", "y.z") for side, value in zip("AB", (A, B), strict=True)
}


def strengths(
    folder: Path, header: dict[str, str], tensors: dict[str, Any] = MODULES, beside: dict[str, Any] | None = None
) -> dict[str, float]:
    """The scale of each module of a file with this header, and perhaps an adapter_config.json beside it."""
    save_file(
        {name: torch.as_tensor(value).clone() for name, value in tensors.items()}, folder / "l.safetensors", header
    )
    if beside is not None:
        (folder / "adapter_config.json").write_text(json.dumps(beside))
    return {module: update.scale for module, update in read_lora(folder / "l.safetensors").items()}


def told(**config: Any) -> dict[str, str]:
    """diffusers' JSON in the header."""
    return {"lora_adapter_metadata": json.dumps({f"transformer.{key}": value for key, value in config.items()})}


@pytest.mark.parametrize(
    "header",
    [
        {"lora_alpha": "16", "r": "4"},
        {"lora_alpha": "16.0"},
        {"transformer.lora_alpha": "16", "transformer.r": "4"},
        {"lora_alpha": "16", "lora_rank": "4"},
        {"lora_alpha": "16", "lora_r": "4", "transformer.lora_alpha": "16"},
        {"network_alpha": "16", "network_dim": "4"},
        {"alpha": "16", "rank": "4"},
        {"ss_network_alpha": "16.0", "ss_network_dim": "4", "ss_network_args": '{"conv_dim": "1", "conv_alpha": "1"}'},
        {"lora_alpha": "8", "use_rslora": "True"},
        told(r=4, lora_alpha=16),
        told(r=4, lora_alpha=8, use_rslora=True, rank_pattern={}),
        told(r=4, lora_alpha=16) | {"lora_alpha": "16"},
    ],
    ids=str,
)
def test_alpha_16_at_rank_4_is_a_scale_of_4(tmp_path: Path, header: dict[str, str]) -> None:
    assert set(strengths(tmp_path, header | {"format": "pt"}).values()) == {4.0}


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"r": "4"},
        {"alpha": "0.75"},  # a word that may mean anything
        {"lora_alpha": "None", "lora_rank": ""},
        {"ss_network_alpha": "Dynamic", "ss_network_dim": "Dynamic"},
        {"ss_network_alpha": "0", "ss_network_dim": "4"},
    ],
    ids=str,
)
def test_where_nothing_is_stated_alpha_is_the_rank(tmp_path: Path, header: dict[str, str]) -> None:
    assert set(strengths(tmp_path, header).values()) == {1.0}


def test_patterns_of_a_header_hold_for_single_modules(tmp_path: Path) -> None:
    header = {"lora_alpha": "16", "alpha_pattern": '{"^y.z": 2}', "rank_pattern": '{"z": 4}', "r": "9"}
    with pytest.raises(AdapterError, match=r"x is of rank 4, its configuration says 9 \('r' in its header\)"):
        strengths(tmp_path, header)
    assert strengths(tmp_path, header | {"r": "4"}) == {"x": 4.0, "y.z": 0.5}


def test_kohyas_record_gives_way_to_its_tensors(tmp_path: Path) -> None:
    """Where the network's own arguments, or an extraction from a narrow layer, gave modules other sizes."""
    own = KOHYA | {"lora_unet_x.alpha": torch.tensor(2.0)}
    varied = {"ss_network_alpha": "16", "ss_network_dim": "8", "ss_network_args": '{"img_attn_dim": "4"}'}
    assert strengths(tmp_path, varied, own) == {"x": 0.5}
    extracted = {"ss_network_alpha": "128", "ss_network_dim": "128"}
    narrow = {"lora_unet_x.lora_down.weight": torch.ones(3, 3), "lora_unet_x.lora_up.weight": torch.ones(5, 3)}
    assert strengths(tmp_path, extracted, narrow | {"lora_unet_x.alpha": torch.tensor(3.0)}) == {"x": 1.0}


def test_a_tensor_rounded_as_its_file_is_the_alpha_that_is_stated(tmp_path: Path) -> None:
    alpha = torch.tensor(0.3).bfloat16()
    found = strengths(tmp_path, {"ss_network_alpha": "0.3"}, KOHYA | {"lora_unet_x.alpha": alpha})
    assert found["x"] == pytest.approx(0.3 / 4, rel=1e-2)


ALPHA_2 = MODULES | {"transformer.x.alpha": torch.tensor(2.0), "transformer.y.z.alpha": torch.tensor(2.0)}


@pytest.mark.parametrize(
    ("header", "tensors", "words"),
    [
        ({"lora_alpha": "16"}, ALPHA_2, r"x has alpha 2 as a tensor and 16 by 'lora_alpha' in its header"),
        (told(lora_alpha=16), ALPHA_2, r"alpha 2 as a tensor and 16 by 'transformer.lora_alpha' in .*lora_adapter_met"),
        ({"ss_network_alpha": "16"}, KOHYA | {"lora_unet_x.alpha": torch.tensor(4.0)}, "16 by 'ss_network_alpha'"),
        ({"lora_alpha": "16", "transformer.lora_alpha": "8"}, MODULES, "'lora_alpha' in its header is 16"),
        ({"r": "8", "lora_rank": "4"}, MODULES, "contradicts itself"),
        (told(r=4, lora_alpha=8) | {"lora_alpha": "16"}, MODULES, "contradicts itself"),
        ({"r": "8", "lora_alpha": "8"}, MODULES, r"of rank 4, its configuration says 8 \('r' in its header\)"),
        ({"ss_network_dim": "8"}, KOHYA, r"of rank 4, its configuration says 8 \('ss_network_dim'"),
        (told(r=4, rank_pattern={"z": 2}), MODULES, r"z is of rank 4, its configuration says 2 \(rank_pattern"),
        ({"lora_alpha": "strong"}, MODULES, "'strong', no number above 0"),
        ({"lora_alpha": "-16"}, MODULES, "no number above 0"),
        ({"lora_alpha": "nan"}, MODULES, "no number above 0"),
        (told(lora_alpha=True), MODULES, "no number above 0"),
        (told(alpha_pattern={"(": 2}), MODULES, "is no pattern"),
        (told(alpha_pattern=[1]), MODULES, "no table of patterns"),
        ({"lora_adapter_metadata": "[1]"}, MODULES, "no JSON object"),
        ({"lora_adapter_metadata": "[" * 50_000}, MODULES, "no JSON"),
        ({}, ALPHA_2 | {"transformer.x.alpha": torch.ones(3)}, "not one real number"),
        ({}, ALPHA_2 | {"diffusion_model.x.alpha": torch.tensor(4.0)}, "two alphas of x"),
    ],
)  # fmt: skip
def test_contradictions_are_refused_by_name(
    tmp_path: Path, header: dict[str, str], tensors: dict[str, Any], words: str
) -> None:
    with pytest.raises(AdapterError, match=words):
        strengths(tmp_path, header, tensors)


ODD = st.one_of(
    st.sampled_from(
        [None, True, False, 0, 4, 16, -1, 10**400, 1e308, "4", "16", "nan", "inf", "1e999", "9" * 5000, "[" * 3000]
    ),
    st.sampled_from(
        ["", "true", "None", "Dynamic", "{}", "[]", '{"(": 4}', '{"x": "a"}', "pissa", "LORA", "\x00", "é"]
    ),
    st.sampled_from([[], [1], {}, {"x": 4}, {"(": 1}, {"x": []}, {"x": None}]),
)
NAMES = st.sampled_from(
    [
        *("r", "lora_rank", "lora_dim", "rank", "alpha", "lora_alpha", "transformer.lora_alpha", "network_alpha"),
        *("ss_network_alpha", "ss_network_dim", "ss_network_args", "rank_pattern", "alpha_pattern", "use_rslora"),
        *("init_lora_weights", "use_dora", "peft_type", "lora_adapter_metadata"),
    ]
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(NAMES, ODD, max_size=3), st.dictionaries(NAMES, ODD, max_size=3))
@example({}, {"use_rslora": True, "alpha": 1e308})
@example({}, {"r": 4, "lora_alpha": 5e-324})
def test_whatever_is_stated_is_read_or_refused_in_one_short_line(
    tmp_path: Path, header: dict[str, Any], beside: dict[str, Any]
) -> None:
    texts, refusal = {k: v if isinstance(v, str) else json.dumps(v) for k, v in header.items()}, ""
    try:
        scales = strengths(tmp_path, texts, beside=beside)
        assert all(math.isfinite(scale) and scale > 0 for scale in scales.values())
    except AdapterError as error:
        refusal = str(error)
    assert len(refusal) < 1000
    assert "\n" not in refusal


def test_a_configuration_beside_the_file_agrees_with_its_header(tmp_path: Path) -> None:
    assert set(strengths(tmp_path, {"lora_alpha": "16"}, beside={"r": 4, "lora_alpha": 16}).values()) == {4.0}
    with pytest.raises(
        AdapterError, match=r"'lora_alpha' in its header is 8, 'lora_alpha' in adapter_config.json is 16"
    ):
        strengths(tmp_path, {"lora_alpha": "8"}, beside={"r": 4, "lora_alpha": 16})
    with pytest.raises(AdapterError, match="init_lora_weights"):
        strengths(tmp_path, told(init_lora_weights=True), beside={"r": 4, "init_lora_weights": "pissa"})
