#!/usr/bin/env bash
# A text encoder whose file lacks tensors opens without an error, with random numbers in their place.
#
# transformers 5.23.0, torch 2.13.0, on a CPU. A tiny Qwen3ForCausalLM is saved; then three tensors of one MLP are taken
# out of its file. Each from_pretrained returns a model, and no two of them agree. A table on stderr is all that tells.
#   three tensors missing:            opens; two loads differ in exactly these three
#   one tensor that nobody reads:     opens; it is left out
#   the weights stored as int32:      opens; their integers are taken for the weights
# Seen: missing 3 random, extra left out, int32 opens as torch.float32 with values {0.0}
# output_loading_info=True returns missing_keys and unexpected_keys, and takes tensors on the meta device, so that a
# caller can ask beforehand, without reading weights.
# Source: transformers/modeling_utils.py (_finalize_model_loading), utils/loading_report.py.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 transformers==5.23.0 safetensors==0.8.0
cd "$work"
HF_HUB_OFFLINE=1 "$work/venv/bin/python" - 2>"$work/said" <<'PY' || { cat "$work/said" >&2; exit 1; }
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen3Config, Qwen3ForCausalLM

config = Qwen3Config(
    hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, head_dim=16,
    vocab_size=50, tie_word_embeddings=False,
)
torch.manual_seed(0)
Qwen3ForCausalLM(config).save_pretrained("model")
FILE = "model/model.safetensors"
whole = load_file(FILE)


def opened(tensors):
    save_file(tensors, FILE, metadata={"format": "pt"})
    return Qwen3ForCausalLM.from_pretrained("model", dtype=torch.float32, local_files_only=True).state_dict()


gone = [name for name in whole if "layers.0.mlp" in name]
less = {name: value for name, value in whole.items() if name not in gone}
one, two = opened(less), opened(less)
differ = sorted(name for name in one if not torch.equal(one[name], two[name]))
extra = opened(whole | {"model.layers.0.more.weight": torch.ones(3)})
integers = opened({name: value.to(torch.int32) for name, value in whole.items()})
weight = integers["model.layers.0.mlp.up_proj.weight"]
print(f"missing {len(differ)} random, extra {'kept' if len(extra) > len(whole) else 'left out'}, "
      f"int32 opens as {weight.dtype} with values {set(weight.flatten().tolist())}")
sys.exit(not (differ == sorted(gone) and len(extra) == len(whole) and set(weight.flatten().tolist()) == {0.0}))
PY
