#!/usr/bin/env bash
# A PiSSA or OLoRA file that peft saved is no update of its base; a fast PiSSA file does not even come back to peft.
#
# peft 0.21.2, torch 2.13.0, on a CPU. Two linear layers, rank 4, B moved a little after the start ("training"), then
# save_pretrained. The effect of that training on the output is about 0.5 to 0.8 (a norm over 8 x 64 values).
#   A and B of the file added to the base (as every program reads a LoRA):
#       init_lora_weights True, "orthogonal":   off by 2e-6
#       "pissa", "pissa_niter_4", "olora":      off by 4 to 6, more than five times the whole effect
#   PeftModel.from_pretrained on the base:
#       "pissa", "olora":                       exact; peft takes the start out of the base once more
#       "pissa_niter_4":                        off by 4: the fast decomposition is drawn at random, and is another one
# Nothing but init_lora_weights in adapter_config.json tells such a file from a LoRA.
# Way out: save_pretrained(.., path_initial_model_for_weight_conversion=..) saves a LoRA of twice the rank.
# Source: peft/tuners/lora/layer.py (pissa_init, olora_init), peft/peft_model.py (save_pretrained).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 peft==0.21.2 transformers==5.23.0 accelerate==1.15.0
cd "$work"
HF_HUB_OFFLINE=1 "$work/venv/bin/python" - <<'PY'
import copy
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file

torch.manual_seed(0)
base, x = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 64)), torch.randn(8, 64)
wrong = []
for start in (True, "orthogonal", "pissa", "olora", "pissa_niter_4"):
    config = LoraConfig(r=4, lora_alpha=4, target_modules=["0", "1"], init_lora_weights=start)
    trained = get_peft_model(copy.deepcopy(base), config)
    for name, parameter in trained.named_parameters():
        if "lora_B" in name:
            parameter.data += 0.02 * torch.randn(parameter.shape)
    trained.save_pretrained(f"{start}")
    stored, added = load_file(f"{start}/adapter_model.safetensors"), copy.deepcopy(base)
    for i in (0, 1):
        update = [stored[f"base_model.model.{i}.lora_{side}.weight"] for side in "BA"]
        added[i].weight.data += update[0] @ update[1]
    again = PeftModel.from_pretrained(copy.deepcopy(base), f"{start}")
    with torch.no_grad():
        effect = float((trained(x) - base(x)).norm())
        off, reopened = (float((net(x) - trained(x)).norm()) for net in (added, again))
    print(f"{start}: effect {effect:.2g}, added to the base off by {off:.2g}, reopened off by {reopened:.2g}")
    expected = {True: (False, False), "orthogonal": (False, False), "pissa_niter_4": (True, True)}.get(start, (True, False))
    if (off > 3 * effect, reopened > 3 * effect) != expected:
        wrong.append(start)
sys.exit(bool(wrong))
PY
