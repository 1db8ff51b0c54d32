#!/usr/bin/env bash
# Which noise levels stock diffusers gives a few-step sampler whose scheduler has the published settings of Qwen-Image.
#
# diffusers 0.42.1, torch 2.13.0, on a CPU: FlowMatchEulerDiscreteScheduler with dynamic shifting and shift_terminal 0.02
#   4 steps at 1024 x 1024 px (mu 0.694): 1, 0.767, 0.456, 0.020; without shift_terminal 1, 0.857, 0.667, 0.400
#   40 steps: no level is moved by more than 0.03
# Seen: in 4 steps the third level is 0.456 and the last 0.02, so three steps do the work and the fourth changes nothing
# Why: shift_terminal stretches the levels until the LAST one, not the end of the path, is 0.02. With many steps the last
# level is near that anyway.
# Source: diffusers/schedulers/scheduling_flow_match_euler_discrete.py (stretch_shift_to_terminal); the settings are those
# of the scheduler_config.json that Qwen/Qwen-Image publishes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 diffusers==0.42.1
cat > "$work/levels.py" <<'PY'
import numpy as np
from diffusers import FlowMatchEulerDiscreteScheduler

SETTINGS = {
    "base_image_seq_len": 256, "max_image_seq_len": 8192, "base_shift": 0.5, "max_shift": 0.9,
    "use_dynamic_shifting": True,
}
TOKENS = 64 * 64
MU = 0.5 + (0.9 - 0.5) * (TOKENS - 256) / (8192 - 256)


def levels(steps, **more):
    scheduler = FlowMatchEulerDiscreteScheduler(**SETTINGS, **more)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=MU)
    return scheduler.sigmas[:-1].numpy()


few, plain = levels(4, shift_terminal=0.02), levels(4)
print("4 steps, shift_terminal 0.02:", few.round(3))
print("4 steps, without it:         ", plain.round(3))
moved = abs(levels(40, shift_terminal=0.02) - levels(40)).max()
print("40 steps, largest difference:", round(float(moved), 3))
assert np.allclose(few, [1, 0.767, 0.456, 0.02], atol=2e-3)
assert np.allclose(plain, [1, 0.857, 0.667, 0.400], atol=2e-3)
assert moved < 0.035
PY
"$work/venv/bin/python" "$work/levels.py" 2> /dev/null
