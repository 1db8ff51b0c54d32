#!/usr/bin/env bash
# Where diffusers looks for the strength (alpha / rank) of a Qwen-Image LoRA file, and where it does not.
#
# diffusers 0.42.1, peft 0.21.2, transformers 5.23.0, torch 2.13.0, on a CPU. One module, rank 4, alpha 16: scale 4.
#   alpha as lora_alpha / r in the safetensors header:                        scale 1, without a word
#   alpha as JSON under lora_adapter_metadata in the header:                  scale 4
#   alpha as a tensor, MODULE.alpha:                                          scale 4
#   alpha as a tensor and under lora_adapter_metadata, both 16:               scale 16, without a word
#   alpha as a tensor beside keys with the prefix that diffusers itself writes (transformer.MODULE.lora_A.weight,
#   transformer.MODULE.alpha):                                                an error: no such module
# Seen: header 1.0, json 4.0, tensor 4.0, both 16.0, prefixed NoMatchingPeftModuleError
# Why: with a tensor of alpha the file is converted (alpha / rank is multiplied into the factors, and a prefix is put in
# front of every key); the metadata is applied afterwards in any case.
# Source: diffusers/loaders/lora_pipeline.py (QwenImageLoraLoaderMixin.lora_state_dict), loaders/lora_conversion_utils.py
# (_convert_non_diffusers_qwen_lora_to_diffusers), loaders/peft.py (load_lora_adapter).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 diffusers==0.42.1 peft==0.21.2 transformers==5.23.0 accelerate==1.15.0
cd "$work"
HF_HUB_OFFLINE=1 "$work/venv/bin/python" - <<'PY'
import json
import sys

import torch
from diffusers import QwenImage21Pipeline, QwenImage21Transformer2DModel
from safetensors.torch import save_file

MODULE = "transformer_blocks.0.attn.to_q"
PREFIXED = f"transformer.{MODULE}"


def transformer():
    torch.manual_seed(0)
    return QwenImage21Transformer2DModel(
        in_channels=8, out_channels=8, num_layers=1, attention_head_dim=16, num_attention_heads=2, context_in_dim=32,
        axes_dims_rope=(4, 6, 6),
    )


base = transformer().get_submodule(MODULE).weight.detach()
a, b, alpha = torch.randn(4, base.shape[1]), torch.randn(base.shape[0], 4), torch.tensor(16.0)
bare = {f"{MODULE}.lora_A.weight": a, f"{MODULE}.lora_B.weight": b}
prefixed = {f"{PREFIXED}.lora_A.weight": a, f"{PREFIXED}.lora_B.weight": b}
config = {"transformer.r": 4, "transformer.lora_alpha": 16, "transformer.target_modules": [MODULE]}
stated = {"lora_adapter_metadata": json.dumps(config)}


def scale(tensors, header):
    """s in W' = W + s B A, after loading and fusing."""
    save_file(tensors, "lora.safetensors", header)
    state, metadata = QwenImage21Pipeline.lora_state_dict("lora.safetensors", return_lora_metadata=True)
    net = transformer()
    QwenImage21Pipeline.load_lora_into_transformer(state, net, metadata=metadata)
    net.fuse_lora()
    net.unload_lora()
    change = net.get_submodule(MODULE).weight.detach() - base
    return round(float((change * (b @ a)).sum() / (b @ a).square().sum()), 3)


found = {
    "header": scale(prefixed, {"lora_alpha": "16", "r": "4"}),
    "json": scale(prefixed, stated),
    "tensor": scale(bare | {f"{MODULE}.alpha": alpha}, {}),
    "both": scale(bare | {f"{MODULE}.alpha": alpha}, stated),
}
try:
    found["prefixed"] = scale(prefixed | {f"{PREFIXED}.alpha": alpha}, {})
except Exception as error:
    found["prefixed"] = type(error).__name__
print(found)
expected = {"header": 1.0, "json": 4.0, "tensor": 4.0, "both": 16.0, "prefixed": "NoMatchingPeftModuleError"}
sys.exit(found != expected)
PY
