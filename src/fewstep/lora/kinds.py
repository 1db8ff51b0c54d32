"""What looks like a LoRA file and is another kind of adapter, or a LoRA that is no update of its base. Each is refused
by its name: read as plain LoRA, it would change the model in another way than it was trained to.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fewstep.lora.stated import StatedStrength
from fewstep.runtime.errors import AdapterError

CONVERT = "convert it, or give the teacher as a merged model"
# The first pattern that a key holds names the kind of the file.
_KEYS = (
    (r"magnitude_vector|dora_scale|\.magnitude$", "a DoRA"),
    (r"\.hada_w\d|\.hada_t\d", "a LoHa"),
    (r"\.lokr_", "a LoKr"),
    (r"\.oft_|\.boft_|oft_blocks|oft_diag", "an OFT"),
    (r"vera_", "a VeRA"),
    (r"\.ia3_|\.on_input$", "an IA3"),
    (r"\.lora_mid|\.lora_[AB]\.(?:\w+\.)?bias$|\.diff(?:_b)?$|\.set_weight$|\.w_norm$|\.b_norm$|\.reshape_weight$", ""),
    (r"^lora_te|^text_encoder|^te\d?\.|^conditioner\.", "trained on the text encoder too"),
)
_SCALED = re.compile(
    r"\.(?:scale_weight|weight_scale|weight_scale_inv|scale_input|input_scale|comfy_quant)$|scaled_fp8$"
)
# peft's ways to begin that take what A and B hold at first out of the base's own weights.
_CHANGES_BASE = {
    "pissa": "PiSSA",
    "olora": "OLoRA",
    "corda": "CorDA",
    "lora_ga": "LoRA-GA",
    "loftq": "LoftQ",
}
_LEAVES_BASE = ("true", "false", "gaussian", "eva", "orthogonal", "mica")  # of peft 0.21
# Arguments of peft's LoraConfig that make the adapter another function than W + scale B A.
_OTHER_FUNCTION = {
    "use_dora": "DoRA",
    "use_qalora": "QA-LoRA",
    "use_bdlora": "BD-LoRA",
    "lora_bias": "LoRA with biases",
    "alora_invocation_tokens": "aLoRA",
    "arrow_config": "Arrow",
    "kasa_config": "KaSA",
    "monteclora_config": "MonteCLoRA",
    "layer_replication": "LoRA on replicated layers",
    "target_parameters": "LoRA on bare parameters",
}


def refuse_strange_keys(file: Path, strange: Sequence[str], total: int) -> None:
    """Refuses a file with keys that are none of a LoRA's, by the kind that they belong to.

    Raises:
        AdapterError: there are such keys.
    """
    if not strange:
        return
    scaled = next((key for key in strange if _SCALED.search(key)), None)
    if scaled is not None:
        raise AdapterError(
            f"{file} is a scaled fp8 LoRA ('{scaled}'): its values count only times their scales, which are not read "
            "here. Save it in bf16 with the program that made it"
        )
    kinds = ((key, kind) for pattern, kind in _KEYS for key in strange if re.search(pattern, key))
    key, kind = next(kinds, (strange[0], ""))
    named = f"{file} is {kind}: '{key}'" if kind else f"{file}: '{key}'"
    raise AdapterError(
        f"{named} is not a LoRA of a transformer's module (lora_A / lora_B / alpha); {len(strange)} of {total} keys "
        f"are not. DoRA, LoHa, LoKr, biases and text encoder adapters are not supported; {CONVERT}"
    )


def refuse_other_kinds(file: Path, stated: StatedStrength) -> None:
    """Refuses what its configuration says is no plain LoRA, or no update of the base's own weights.

    Source: peft 0.21.2, tuners/lora/config.py and layer.py (`pissa_init`, `olora_init`, `corda_init`, `lora_ga_init`,
    `loftq_init` write the base's weights).

    Raises:
        AdapterError: it is one of these.
    """
    kind = stated.of("peft_type")
    if kind is not None and str(kind).upper() != "LORA":
        raise AdapterError(
            f"{file} is an adapter of type {str(kind)[:40]} ({_place(stated, 'peft_type')}), no LoRA; {CONVERT}"
        )
    for name, words in _OTHER_FUNCTION.items():
        if stated.of(name):
            raise AdapterError(
                f"{file} is {words} ({_place(stated, name)}), which does more than add a product; {CONVERT}"
            )
    _refuse_changed_bases(file, stated)


def _refuse_changed_bases(file: Path, stated: StatedStrength) -> None:
    begun = str(stated.of("init_lora_weights")).lower()
    if stated.of("init_lora_weights") is None or begun in _LEAVES_BASE:
        return
    words = next((words for start, words in _CHANGES_BASE.items() if begun.startswith(start)), None)
    if words is None:
        raise AdapterError(
            f"{file} was begun with init_lora_weights '{begun[:40]}' ({_place(stated, 'init_lora_weights')}), and "
            f"whether it is an update of the base's own weights is not known here; {CONVERT}"
        )
    remedy = (
        f"Only the merged model holds what it learned ({CONVERT.partition(', or ')[2]})"
        if words == "LoftQ"
        else "Convert it with peft where it was trained: save_pretrained(FOLDER, "
        "path_initial_model_for_weight_conversion=FOLDER_OF_THE_ADAPTER_BEFORE_TRAINING); or "
        f"{CONVERT.partition(', or ')[2]}"
    )
    raise AdapterError(
        f"{file} is a {words} adapter ({_place(stated, 'init_lora_weights')}): it was trained on a base whose weights "
        f"peft had changed, so it is no update of the published base. {remedy}"
    )


def _place(stated: StatedStrength, name: str) -> str:
    return stated.facts[name].place


def in_float(file: Path, key: str, value: Tensor) -> Tensor:
    """A factor as it can be multiplied: fp8, which torch only stores, becomes float32; others stay.

    Raises:
        AdapterError: it is stored as integers, or as exponents alone: quantised.
    """
    if not value.dtype.is_floating_point or value.dtype is torch.float8_e8m0fnu:
        stored = str(value.dtype).removeprefix("torch.")
        raise AdapterError(
            f"{file}: {key} is stored as {stored}, quantised. Save it in bf16 with the program that made it"
        )
    return value.float() if value.dtype.itemsize == 1 else value
