#!/usr/bin/env bash
# torch's check for bf16 on a CPU does not tell whether bf16 is fast there.
#
# torch 2.13.0 on an x86 CPU with AVX-512. torch.ops.mkldnn._is_mkldnn_bf16_supported() is what torch itself asks before
# it uses oneDNN in bf16. It is true for every CPU with AVX-512, also for those without instructions for bf16. There
# oneDNN computes bf16 products in fp32 and takes longer than fp32. oneDNN can be told to do without the instructions
# (ONEDNN_MAX_CPU_ISA=AVX512_CORE), which is how it is seen on a CPU that has them.
# A linear layer with its backward pass, 1024 x 256 by 256 x 1024, one thread, seconds in bf16 over those in fp32.
# The instructions alone do not decide it either: where a virtual machine shows AVX512-BF16 and hides AMX, products in
# bf16 may take longer than in fp32 with them, too.
# Seen: as it is: True 0.21; without bf16 instructions: True 1.16 (2 cores of an AMD EPYC with avx512_bf16)
#       as it is: True 1.64; without bf16 instructions: True 4.22 (2 cores of an Intel Xeon with avx512_bf16, no AMX)
# Source: aten/src/ATen/native/mkldnn/Utils.h (mkldnn_bf16_device_check), oneDNN's "CPU dispatcher control".
set -euo pipefail
grep -q avx512vl /proc/cpuinfo || { echo "needs an x86 CPU with AVX-512"; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy
cat > "$work/ask.py" <<'PY'
import time

import torch

torch.set_num_threads(1)
x, w = torch.randn(1024, 256), torch.randn(1024, 256, requires_grad=True)


def seconds(dtype):
    begun = time.thread_time()
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32, cache_enabled=False):
        made = torch.nn.functional.linear(x, w)
        torch.autograd.grad(made, w, torch.ones_like(made))
    return time.thread_time() - begun


kinds = (torch.bfloat16, torch.float32)
for kind in kinds:
    seconds(kind)
best = [min(seconds(kind) for _ in range(10)) for kind in kinds]
print(torch.ops.mkldnn._is_mkldnn_bf16_supported(), round(best[0] / best[1], 2))
PY
asis=$("$work/venv/bin/python" "$work/ask.py" 2>/dev/null)
without=$(ONEDNN_MAX_CPU_ISA=AVX512_CORE "$work/venv/bin/python" "$work/ask.py" 2>/dev/null)
echo "as it is: $asis; without bf16 instructions: $without"
python3 -c "import sys; said, ratio = sys.argv[1].split(); sys.exit(not (said == 'True' and float(ratio) > 1))" "$without"
