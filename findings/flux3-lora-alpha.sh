#!/usr/bin/env bash
# FLUX 3: a LoRA file that states its strength in alpha tensors (kohya's and ComfyUI's way) does not load.
#
# diffusers 0.42.1, peft 0.21.2, transformers 5.24.0, torch 2.13.0, on a CPU. One module, rank 4, alpha 16: scale 4.
#   the makers' keys (diffusion_model.single_blocks.0.q_proj.lora_A.weight), no alpha:   scale 1
#   the makers' keys and an alpha tensor (diffusion_model.single_blocks.0.q_proj.alpha): ValueError, Invalid LoRA checkpoint
#   diffusers' keys (transformer.single_transformer_blocks...) and an alpha tensor:      ValueError, Invalid LoRA checkpoint
#   the makers' keys, alpha as JSON under lora_adapter_metadata in the header:           scale 4
# Seen: {'plain': 1.0, 'tensor': 'ValueError', 'own keys': 'ValueError', 'json': 4.0}
# Why: the conversion renames keys alone and multiplies no alpha into the factors, as those of kohya's FLUX.2 files and of
# Qwen-Image do; then every key has to hold "lora". The error names neither the key nor alpha.
# Source: diffusers/loaders/lora_pipeline.py (Flux3LoraLoaderMixin.load_lora_weights), loaders/lora_conversion_utils.py
# (_convert_non_diffusers_flux3_lora_to_diffusers).
# Whoever writes such files for diffusers must multiply alpha / rank into the factors, or state it in that JSON.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 diffusers==0.42.1 peft==0.21.2 transformers==5.24.0 accelerate==1.15.0
cd "$work"
HF_HUB_OFFLINE=1 "$work/venv/bin/python" - <<'PY'
import json
import sys

import torch
from diffusers import Flux3AutoBlocks, Flux3Transformer2DModel
from safetensors.torch import save_file

MODULE, MAKERS = "single_transformer_blocks.0.attn.to_q", "diffusion_model.single_blocks.0.q_proj"


def transformer():
    torch.manual_seed(0)
    return Flux3Transformer2DModel(
        in_channels=16, cond_in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=32, timestep_channels=32, axes_dims_rope=(4, 4, 4, 4),
    )


base = transformer().get_submodule(MODULE).weight.detach()
a, b, alpha = torch.randn(4, base.shape[1]), torch.randn(base.shape[0], 4), torch.tensor(16.0)


def scale(name, alphas, header=None):
    """s in W' = W + s B A, after loading and fusing; or what is raised."""
    save_file({f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b} | alphas, "lora.safetensors", header)
    net, pipe = transformer(), Flux3AutoBlocks().init_pipeline()
    pipe.update_components(transformer=net)
    try:
        pipe.load_lora_weights("lora.safetensors")
    except ValueError as error:
        assert "Invalid LoRA checkpoint" in str(error), error
        return type(error).__name__
    net.fuse_lora()
    net.unload_lora()
    change = net.get_submodule(MODULE).weight.detach() - base
    return round(float((change * (b @ a)).sum() / (b @ a).square().sum()), 3)


config = {"transformer.r": 4, "transformer.lora_alpha": 16, "transformer.target_modules": [MODULE]}
found = {
    "plain": scale(MAKERS, {}),
    "tensor": scale(MAKERS, {f"{MAKERS}.alpha": alpha}),
    "own keys": scale(f"transformer.{MODULE}", {f"transformer.{MODULE}.alpha": alpha}),
    "json": scale(MAKERS, {}, {"lora_adapter_metadata": json.dumps(config)}),
}
print(found)
sys.exit(found != {"plain": 1.0, "tensor": "ValueError", "own keys": "ValueError", "json": 4.0})
PY
