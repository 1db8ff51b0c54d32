#!/usr/bin/env bash
# A folder with both one weight file and an index of shards: diffusers reads the shards, transformers the one file.
#
# diffusers 0.42.1, transformers 5.23.0, torch 2.13.0, on a CPU. Two savings lie over each other, as after copying a
# release over another one: shards with their index (all weights 1), and the single file (all weights 2). Neither says
# that there are two.
# Seen: diffusers 1.0, transformers 2.0
# Source: diffusers/models/modeling_utils.py (from_pretrained looks for the index first), transformers/modeling_utils.py
# (_get_resolved_checkpoint_files looks for model.safetensors first).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 diffusers==0.42.1 transformers==5.23.0 accelerate==1.15.0 safetensors==0.8.0
cd "$work"
HF_HUB_OFFLINE=1 "$work/venv/bin/python" - <<'PY'
import sys
from pathlib import Path

import torch
from diffusers import QwenImage21Transformer2DModel
from transformers import Qwen3Config, Qwen3ForCausalLM


def filled(model, value):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    return model


def found(model, name):
    """Saves both forms into one folder, and returns what opening it gives."""
    filled(model, 2.0).save_pretrained(name)
    (single,) = Path(name).glob("*.safetensors")
    kept = single.read_bytes()
    filled(model, 1.0).save_pretrained(name, max_shard_size="20KB")
    single.write_bytes(kept)
    assert len(list(Path(name).glob("*.safetensors"))) > 2 and list(Path(name).glob("*.index.json"))
    opened = type(model).from_pretrained(name, local_files_only=True)
    return next(opened.parameters()).flatten()[0].item()


denoiser = QwenImage21Transformer2DModel(
    in_channels=8, out_channels=8, num_layers=1, attention_head_dim=16, num_attention_heads=2, context_in_dim=32,
    axes_dims_rope=(4, 6, 6),
)
encoder = Qwen3ForCausalLM(Qwen3Config(
    hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, head_dim=16,
    vocab_size=50,
))
read = found(denoiser, "denoiser"), found(encoder, "encoder")
print("diffusers", read[0], "transformers", read[1])
sys.exit(read != (1.0, 2.0))
PY
