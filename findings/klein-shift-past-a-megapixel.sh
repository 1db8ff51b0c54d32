#!/usr/bin/env bash
# How the shift of FLUX.2 klein's noise levels depends on the picture's size in stock diffusers.
#
# diffusers 0.42.1 (torch 2.13.0): compute_empirical_mu of the klein pipeline, in 4 steps
#   1024 x 1024 px (4,096 tokens): a shift of 9.89     1040 x 1040 px (4,225): 10.0     1056 x 1056 px (4,356): 3.3
# Seen: the shift rises with the size up to 4,300 tokens and then falls to a third; above, it no longer depends on
# the number of steps
# Why: the fit has two branches. Up to 4,300 tokens it is interpolated between fits for 10 and 200 steps; above, the one
# for 200 steps is taken whatever the number of steps.
# Source: diffusers/pipelines/flux2/pipeline_flux2_klein.py (compute_empirical_mu).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 diffusers==0.42.1 transformers==5.23.0 accelerate==1.15.0
cat > "$work/shift.py" <<'PY'
import math

from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu


def shift(side, steps):
    return math.exp(compute_empirical_mu(image_seq_len=(side // 16) ** 2, num_steps=steps))


for side in (512, 768, 1024, 1040, 1056, 1328):
    print(side, [round(shift(side, steps), 2) for steps in (4, 8, 50)])
assert shift(512, 4) < shift(1024, 4) < shift(1040, 4)
assert shift(1056, 4) < shift(1024, 4) / 2
assert shift(1056, 4) == shift(1056, 50) and shift(1024, 4) > shift(1024, 50)
PY
"$work/venv/bin/python" "$work/shift.py" 2> /dev/null
