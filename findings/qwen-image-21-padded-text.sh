#!/usr/bin/env bash
# A prompt beside a longer one is answered otherwise than alone, although its padding is masked (Qwen-Image 2.1).
#
# diffusers 0.42.1, torch 2.13.0, on a CPU, float32, random weights. One text of 5 positions, and the same text padded to
# 9 with its mask, as the pipeline pads the shorter prompt of a batch.
#   what is masked does not leak: other values in the padding change nothing
#   and yet the answer is another one: the target's rotary position is counted from the padded length, mask or no mask
#   Qwen-Image (20 B), whose text positions follow the picture's, answers as for the text alone
# Seen: leak 0.0e+00, 2.1 padded against alone 0.004 of the answer, 20 B padded against alone 1e-07
# Source: diffusers/models/transformers/transformer_qwenimage21.py (QwenImage21Rope.forward counts text tokens by where
# the first image token stands), transformer_qwenimage.py (QwenEmbedRope).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 diffusers==0.42.1 transformers==5.23.0
cd "$work"
HF_HUB_OFFLINE=1 "$work/venv/bin/python" - <<'PY'
import sys

import torch
from diffusers import QwenImage21Transformer2DModel, QwenImageTransformer2DModel

SHORT, LONG, ROWS, COLUMNS = 5, 9, 4, 4
torch.manual_seed(0)
text = torch.randn(1, SHORT, 32)
latents = torch.randn(1, ROWS * COLUMNS, 8)


def padded(fill):
    return torch.cat([text, torch.full((1, LONG - SHORT, 32), fill)], dim=1)


mask = torch.arange(LONG)[None] < SHORT


def apart(one, other):
    return float((one - other).square().mean().sqrt() / other.square().mean().sqrt())


torch.manual_seed(1)
new = QwenImage21Transformer2DModel(
    in_channels=8, out_channels=8, num_layers=2, attention_head_dim=32, num_attention_heads=2, context_in_dim=32,
    axes_dims_rope=(8, 12, 12),
).eval()


@torch.no_grad()
def of_21(embeds, valid=None):
    image = torch.ones(1, ROWS * COLUMNS // 4, dtype=torch.bool)  # one slot for 2 x 2 tokens
    return new(
        hidden_states=latents, timestep=torch.tensor([0.5]), encoder_hidden_states=embeds,
        encoder_hidden_states_mask=valid, img_shapes=[[(1, ROWS, COLUMNS)]],
        img_mask=torch.cat([torch.zeros(1, embeds.shape[1], dtype=torch.bool), image], dim=1), return_dict=False,
    )[0][:, -ROWS * COLUMNS :]  # the picture's tokens


torch.manual_seed(1)
old = QwenImageTransformer2DModel(
    patch_size=1, in_channels=8, out_channels=8, num_layers=2, attention_head_dim=32, num_attention_heads=2,
    joint_attention_dim=32, axes_dims_rope=(8, 12, 12),
).eval()


@torch.no_grad()
def of_20b(embeds, valid=None):
    return old(
        hidden_states=latents, timestep=torch.tensor([0.5]), encoder_hidden_states=embeds,
        encoder_hidden_states_mask=valid, img_shapes=[[(1, ROWS, COLUMNS)]], return_dict=False,
    )[0]


leak = apart(of_21(padded(9.0), mask), of_21(padded(0.0), mask))
shifted = apart(of_21(padded(0.0), mask), of_21(text))
unmoved = apart(of_20b(padded(0.0), mask), of_20b(text))
print(f"leak {leak:.1e}, 2.1 padded against alone {shifted:.3f} of the answer, 20 B padded against alone {unmoved:.0e}")
sys.exit(not (leak < 1e-5 and shifted > 1e-3 and unmoved < 1e-5))
PY
