#!/usr/bin/env bash
# DiffSynth-Studio's LoRA loader skips modules that it does not find, and only prints how many it found.
#
# diffsynth 2.1.12, torch 2.13.0, on a CPU. The loader behind pipe.load_lora(pipe.dit, FILE) is run on one block with the
# 7 linear layers of a Qwen-Image-2.1 block, by their names there, and an update of each of them.
#   keys of DiffSynth (MODULE.lora_A.weight):               "7 tensors are fused by LoRA"
#   keys of diffusers (transformer.MODULE.lora_A.weight):   "0 tensors are fused by LoRA", no error: the base's pictures
#   keys of ComfyUI (diffusion_model.MODULE.lora_A.weight, gate and projection as one img_mlp.gate_up):
#                                                           "5 tensors are fused by LoRA", no error: a part of the LoRA
# Seen: {'diffsynth': 7, 'diffusers': 0, 'comfyui': 5}
# Source: diffsynth/utils/lora/general.py (GeneralLoRALoader), called by diffsynth/diffusion/base_pipeline.py (load_lora).
# Only that one file of the package is imported, so none of its other requirements is installed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0
"$work/venv/bin/pip" install -q --no-deps diffsynth==2.1.12
cd "$work"
"$work/venv/bin/python" - <<'PY'
import contextlib
import importlib.metadata
import importlib.util
import io
import re
import sys

import torch

path = importlib.metadata.distribution("diffsynth").locate_file("diffsynth/utils/lora/general.py")
spec = importlib.util.spec_from_file_location("general", path)
general = importlib.util.module_from_spec(spec)
spec.loader.exec_module(general)

BLOCK, GATE, UP, FUSED = "transformer_blocks.0", "img_mlp.gate_layer", "img_mlp.proj", "img_mlp.gate_up"
SHAPES = {f"attn.{name}": (32, 32) for name in ("to_q", "to_k", "to_v", "to_out.0")}
SHAPES |= {GATE: (96, 32), UP: (96, 32), "img_mlp.out": (32, 96)}


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        for name, (rows, columns) in SHAPES.items():
            place, parts = self, name.split(".")
            for part in parts[:-1]:
                if not hasattr(place, part):
                    place.add_module(part, torch.nn.Module())
                place = getattr(place, part)
            place.add_module(parts[-1], torch.nn.Linear(columns, rows, bias=False))


model = torch.nn.Module()
model.transformer_blocks = torch.nn.ModuleList([Block()])


def fused(prefix, shapes):
    """How many modules the loader says that it has changed."""
    tensors = {}
    for name, (rows, columns) in shapes.items():
        tensors[f"{prefix}{BLOCK}.{name}.lora_A.weight"] = torch.randn(2, columns)
        tensors[f"{prefix}{BLOCK}.{name}.lora_B.weight"] = torch.randn(rows, 2)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        general.GeneralLoRALoader().fuse_lora_to_base_model(model, tensors)
    return int(re.search(r"(\d+) tensors are fused", said.getvalue())[1])


one_matrix = {name: shape for name, shape in SHAPES.items() if name not in (GATE, UP)} | {FUSED: (192, 32)}
found = {
    "diffsynth": fused("", SHAPES),
    "diffusers": fused("transformer.", SHAPES),
    "comfyui": fused("diffusion_model.", one_matrix),
}
print(found)
sys.exit(found != {"diffsynth": 7, "diffusers": 0, "comfyui": 5})
PY
