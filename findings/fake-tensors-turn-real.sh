#!/usr/bin/env bash
# What pad_sequence makes of torch's fake tensors, which have a shape and no data.
#
# torch 2.13.0 (CPU): two fake tensors of a FakeTensorMode(allow_non_fake_inputs=True) that is not entered
#   a + 1, torch.stack([a, a]) -> FakeTensor     pad_sequence([a, b]) -> torch.Tensor, zeros, on the CPU
# Seen: the padded result is a real tensor of full size, and all that follows is computed in earnest. No warning.
# Why: pad_sequence allocates its result first and copies the tensors into it. An allocation has no fake argument, so it
# is real; a copy into a real tensor leaves it real.
# It matters to whoever counts memory or operations of a large model on fake tensors: the Z-Image transformer of
# diffusers 0.42.1 pads texts and pictures in this way.
# Source: torch/nn/utils/rnn.py (pad_sequence), torch/_subclasses/fake_tensor.py.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.0
cat > "$work/padded.py" <<'PY'
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.utils.rnn import pad_sequence

with FakeTensorMode(allow_non_fake_inputs=True) as mode:
    a, b = torch.ones(3, 4), torch.ones(2, 4)
summed, stacked, padded = a + 1, torch.stack([a, a]), pad_sequence([a, b], batch_first=True)
with mode:
    inside = pad_sequence([a, b], batch_first=True)
print({name: type(made).__name__ for name, made in dict(sum=summed, stack=stacked, pad=padded, inside=inside).items()})
assert isinstance(summed, FakeTensor) and isinstance(stacked, FakeTensor)
assert type(padded) is torch.Tensor and padded.shape == (2, 3, 4) and padded.eq(0).all()
assert isinstance(inside, FakeTensor)
PY
"$work/venv/bin/python" "$work/padded.py"
