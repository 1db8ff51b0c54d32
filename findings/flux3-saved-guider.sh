#!/usr/bin/env bash
# A saved modular pipeline of FLUX 3 forgets the scheduler and the guider that it was given.
#
# diffusers 0.42.1, transformers 5.24.0, torch 2.13.0, on a CPU. save_pretrained writes the components that are loaded from
# a checkpoint. Scheduler and guider are made by the blocks, so neither is written, and the opened folder makes them anew.
#   given to the pipeline:   shift 3.0, guider off
#   in the opened folder:    shift 6.93, guidance 3.5 (two forwards a step); no error and no warning
#   the index of the folder: the absolute path that it was saved under
#   the same folder with a scheduler/, a guider/ and two entries in its index: shift 3.0, guider off
# Seen: {'given': (3.0, False), 'opened': (6.93, True), 'absolute': True, 'named': (3.0, False)}
# Source: diffusers/modular_pipelines/modular_pipeline.py (ModularPipeline.save_pretrained, register_components),
# modular_pipelines/flux3/before_denoise.py and denoise.py (default_creation_method="from_config").
# Whoever ships such a folder must name both parts in its index, and replace the absolute path.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 diffusers==0.42.1 transformers==5.24.0 accelerate==1.15.0
cd "$work"
"$work/venv/bin/python" - <<'PY'
import json
import os
import sys

from diffusers import AutoencoderKLFlux2, ClassifierFreeGuidance, Flux3AutoBlocks, FlowMatchEulerDiscreteScheduler

FOLDER = os.path.abspath("saved")


def opened():
    blocks = Flux3AutoBlocks()
    blocks.sub_blocks.pop("prompt_upsampler")
    pipe = blocks.init_pipeline(FOLDER if os.path.isdir(FOLDER) else None)
    pipe.load_components(names=[name for name in ("vae", "scheduler", "guider") if os.path.isdir(f"{FOLDER}/{name}")])
    return pipe


def settings(pipe):
    return pipe.scheduler.config.shift, pipe.guider._enabled


levels, off = FlowMatchEulerDiscreteScheduler(shift=3.0), ClassifierFreeGuidance(enabled=False)
pipe = opened()
vae = AutoencoderKLFlux2(block_out_channels=(8,) * 4, layers_per_block=1, latent_channels=4, norm_num_groups=4)
pipe.update_components(vae=vae, scheduler=levels, guider=off)
found = {"given": settings(pipe)}
pipe.save_pretrained(FOLDER, overwrite_modular_index=True)
found["opened"] = settings(opened())
index = json.load(open(f"{FOLDER}/modular_model_index.json"))
found["absolute"] = index["vae"][2]["pretrained_model_name_or_path"] == FOLDER

levels.save_pretrained(f"{FOLDER}/scheduler")
off.save_pretrained(f"{FOLDER}/guider")
for name, kind in (("scheduler", "FlowMatchEulerDiscreteScheduler"), ("guider", "ClassifierFreeGuidance")):
    place = {"pretrained_model_name_or_path": ".", "subfolder": name, "type_hint": ["diffusers", kind]}
    index[name] = ["diffusers", kind, place]
json.dump(index, open(f"{FOLDER}/modular_model_index.json", "w"))
found["named"] = settings(opened())
print(found)
sys.exit(found != {"given": (3.0, False), "opened": (6.93, True), "absolute": True, "named": (3.0, False)})
PY
